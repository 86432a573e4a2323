"""What a beamline's queue server loads: an engine, devices, the plans as they are."""

import os

from bluesky import RunEngine
from ophyd_async.core import init_devices

from ptystream.bluesky.device import PtychoLive
from ptystream.bluesky.plans import fly_ptycho, fly_until  # noqa: F401
from ptystream.bluesky.simulated import SimulatedBeamline

RE = RunEngine({})
with init_devices(timeout=20):
    live = PtychoLive(os.environ["PTY_CONTROL"], os.environ["PTY_STATUS"])
    beam = SimulatedBeamline(
        os.environ["PTY_DETECTOR"],
        os.environ["PTY_ENCODER"],
        "demo",
        os.environ["PTY_FLAGS"].split(";"),
    )
