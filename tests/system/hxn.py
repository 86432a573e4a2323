"""HXN's hutch in a test: detector and encoder box on its own wires, flown as one."""

import asyncio
import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import zmq
from ophyd_async.core import FlyableLogic, StandardFlyable

from ptystream.wire.columns import Columns
from ptystream.wire.dectris_encode import DectrisEncoder
from ptystream.wire.messages import Frame, ScanEnd, ScanStart
from ptystream.wire.panda_json import PandaJsonEncoder
from tests.system.beam import PER_FRAME, experiment

ROWS, COLS, TOP, LEFT = 70, 90, 14, 37
SPACING_M = 3.1355893e-10
COUNT_M = 1e-10
X_SCALE, Z_SCALE = 0.9542, 1.0
LINE = 12
"""Frames between two pauses; the box tells their samples in one message."""


def start_document(**more: Any) -> dict[str, Any]:
    """Return what an HXN fly scan says of itself."""
    geometry = experiment()[0].geometry
    scan = {
        "type": "2D_FLY_PANDA",
        "scan_input": [-0.6, 0.6, 12, -0.6, 0.6, 12],
        "detectors": ["fs", "eiger2", "xspress3"],
        "detector_distance": geometry.distance_m,
        "dwell": 0.01,
        "fast_axis": {"motor_name": "zpssx", "units": "um"},
        "slow_axis": {"motor_name": "zpssy", "units": "um"},
        "shape": [12, 12],
        "sample_name": "star",
    }
    return {
        "plan_name": "FlyPlan2D",
        "beamline_id": "HXN",
        "motors": ["zpssx", "zpssy"],
        "shape": [12, 12],
        "fly_type": "grid",
        "x_scale_factor": X_SCALE,
        "z_scale_factor": Z_SCALE,
        "data_session": "pass-123456",
        "scan": scan,
        **more,
    }


def bragg_deg() -> float:
    """Return the monochromator's angle at the experiment's wavelength."""
    wavelength_m = experiment()[0].geometry.wavelength_m
    return math.degrees(math.asin(wavelength_m / (2 * SPACING_M)))


class HxnStreams(StandardFlyable):
    """Sends a scan when kicked off: the Eiger's parts one by one, the box' JSON."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], name: str = "") -> None:
        self._detector, self._box = (_publisher(context) for _ in range(2))
        self._task: asyncio.Task[None] | None = None
        self._series = 0
        super().__init__(name=name)

    @cached_property
    def flyable_logic(self) -> "_Fly":
        return _Fly(self)

    @property
    def endpoints(self) -> dict[str, str]:
        """Return the URLs that a service takes."""
        kinds = {"detector": "dectris+sub", "positions": "panda-json+sub"}
        sockets = (self._detector, self._box)
        ports = [s.get_string(zmq.LAST_ENDPOINT).rpartition(":")[2] for s in sockets]
        return {
            name: f"{kind}://127.0.0.1:{port}"
            for (name, kind), port in zip(kinds.items(), ports, strict=True)
        }

    def wait(self) -> None:
        """Return once somebody subscribes to both."""
        for socket in (self._detector, self._box):
            assert socket.poll(60_000), "nobody came"
            socket.recv()

    async def begin(self) -> None:
        self._series += 1
        self._task = asyncio.create_task(self._fly())

    async def ended(self) -> None:
        if self._task is not None:
            await self._task

    async def _fly(self) -> None:
        for line in _lines(self._series):
            for socket, parts in line:
                getattr(self, f"_{socket}").send(parts)
            await asyncio.sleep(0.05)


class _Fly(FlyableLogic[None, None]):
    def __init__(self, streams: HxnStreams) -> None:
        self._streams = streams

    async def on_prepare(self, value: None) -> None:
        """Nothing is to be set."""

    async def on_kickoff(self, ctx: None) -> None:
        await self._streams.begin()

    async def on_complete(self, ctx: None) -> None:
        await self._streams.ended()

    async def stop(self) -> None:
        await self._streams.ended()


def _publisher(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.XPUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.bind("tcp://127.0.0.1:*")
    return socket


def _lines(series: int) -> Iterator[list[tuple[str, Any]]]:
    """Yield what is sent at once: (which socket, one part)."""
    _, counts = experiment()
    encoder, box = DectrisEncoder(series=series), PandaJsonEncoder("hxn")
    start = ScanStart("", "det", (ROWS, COLS), "<u2", len(counts))
    header = encoder.encode(start)[:-1]  # without our own appendix
    arm = box.start(f"2026-11-22T10:0{series}:00Z")
    yield [("box", arm[0]), *(("detector", part) for part in header)]
    for first in range(0, len(counts), LINE):
        frames = [(i, _seen(counts[i])) for i in range(first, first + LINE)]
        parts = [
            part
            for index, image in frames
            for part in encoder.encode(Frame("", index, image), "bslz4")
        ]
        rows = box.rows(_columns(first, first + LINE))
        yield [*(("detector", part) for part in parts), ("box", rows[0])]
    end = encoder.encode(ScanEnd("", "det", "complete"))
    yield [("box", box.end()[0]), ("detector", end[0])]


def _seen(counts: np.ndarray) -> np.ndarray:
    """Return a pattern as the Eiger has it: somewhere on the chip, and mirrored."""
    whole = np.zeros((ROWS, COLS), "<u2")
    h, w = counts.shape
    whole[TOP : TOP + h, LEFT : LEFT + w] = counts
    return np.ascontiguousarray(whole[:, ::-1])


def _columns(first: int, stop: int) -> Columns:
    """Return the box' rows of these frames, in counts."""
    rows_m = experiment()[0].samples_m(0)[first * PER_FRAME : stop * PER_FRAME]
    y, x = (rows_m / (COUNT_M * Z_SCALE, COUNT_M * X_SCALE)).T
    columns = {"INENC2.VAL.Value": x.copy(), "INENC3.VAL.Value": y.copy()}
    return Columns("", first * PER_FRAME, columns)
