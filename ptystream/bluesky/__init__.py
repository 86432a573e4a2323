"""What a beamline's Bluesky session imports; no torch beneath it.

``device`` and ``images`` are ophyd-async devices, ``plans`` and ``refine`` plans for
them, ``callbacks`` tells the service of runs, ``suspender`` and ``adaptive`` let the
live reconstruction steer. They need the extra ``bluesky``.
"""
