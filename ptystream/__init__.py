"""ptystream: live ptychography for X-ray and electron beamlines."""

__version__ = "0.1.0"
