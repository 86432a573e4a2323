"""The profile of HXN, from its own wires to exposures, over real sockets."""

import time
from typing import Any

import numpy as np
import pytest
import zmq

from ptystream.config import Config, load
from ptystream.ingest.scans import Event, ScanClosed, ScanOpened
from ptystream.presets import read_preset
from ptystream.service.geometry import resolve_geometry
from ptystream.service.intake import Intake
from ptystream.service.scan import usable_shape
from ptystream.wire.curve import VARIABLES
from ptystream.wire.messages import Exposure
from tests.ingest.test_pitfalls import flattened, panda

pytestmark = pytest.mark.system

ROWS, COLS = 70, 90
BEAM = 30, 50
FRAMES = 30


def lit(index: int) -> np.ndarray:
    """A pattern as the detector has it: a spot, a dead pixel, one that is flagged."""
    rows, cols = np.mgrid[:ROWS, :COLS]
    away = (rows - BEAM[0]) ** 2 + (cols - BEAM[1]) ** 2
    counts = np.round(900 * np.exp(-away / 40) + index % 5).astype("<u2")
    counts[BEAM[0] + 3, BEAM[1]] = 65534
    return counts


def series(number: int) -> list[list[Any]]:
    """What HXN republishes: header, images of three parts, end."""
    head = f'"series":{number},"header_detail":"basic"'
    told = f'"trigger_mode":"exte","nimages":1,"ntrigger":{FRAMES},"frame_time":0.01'
    messages: list[list[Any]] = [
        [f'{{"htype":"dheader-1.0",{head}}}'.encode(), f"{{{told}}}".encode()]
    ]
    for index in range(FRAMES):
        shape = f'"shape":[{COLS},{ROWS}],"type":"uint16","encoding":"raw"'
        messages.append(
            [
                f'{{"frame":{index},"series":{number}}}'.encode(),
                f'{{"htype":"dimage_d-1.0",{shape}}}'.encode(),
                lit(index).tobytes(),
            ]
        )
    end = f'{{"htype":"dseries_end-1.0","series":{number}}}'
    return [*messages, [end.encode()]]


class Box:
    """A publisher that knows when its subscriber is there."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.socket = context.socket(zmq.XPUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")

    def wait(self) -> None:
        assert self.socket.poll(20_000)
        self.socket.recv()

    def send(self, messages: list[list[Any]]) -> None:
        for parts in messages:
            self.socket.send_multipart(parts)


def settings(detector: Box, encoders: Box) -> Config:
    return load(
        environment={},
        presets=[read_preset("profiles", "hxn")],
        flags=[
            f"detector.endpoint=dectris+sub://127.0.0.1:{detector.port}",
            f"positions.endpoint=panda-json+sub://127.0.0.1:{encoders.port}",
            "detector.preprocess.size=[32, 32]",
            "detector.ring_mib=32",
            "scan.late_s=1",
            "geometry.energy_ev=10000",
            "geometry.distance_m=2.05",
        ],
    )


def taken(intake: Intake, closings: int) -> list[Event]:
    events: list[Event] = []
    deadline_s = time.monotonic() + 30
    while sum(isinstance(e, ScanClosed) for e in events) < closings:
        assert time.monotonic() < deadline_s
        assert intake.error is None
        events += intake.backlog.take(100, 0.1)
    return events


def test_two_scans_of_hxn_become_exposures_in_the_right_places(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with zmq.Context() as context:
        detector, encoders = Box(context), Box(context)
        config = settings(detector, encoders)
        with detector.socket, encoders.socket, Intake(config) as intake:
            detector.wait(), encoders.wait()
            events: list[Event] = []
            for number in (7, 8):
                # Positions are armed before the frames, and come after them.
                rows = panda(FRAMES, f"10:0{number}")
                encoders.send(rows[:1])
                detector.send(flattened(series(number)))
                encoders.send(rows[1:])
                events += taken(intake, 1)
    opened = [e for e in events if isinstance(e, ScanOpened)]
    assert [o.start.scan for o in opened] == ["series-7", "series-8"]
    for event in opened:
        done = event.start.meta["preprocess"]
        mirrored = COLS - 1 - BEAM[1]
        assert done["beam_centre_px"] == pytest.approx([BEAM[0], mirrored], abs=0.5)
        geometry = resolve_geometry(event.start, config)
        assert geometry.origins["detector_pixel_m"] == "default"
        assert usable_shape(event.start) == (32, 32)
    exposures = [e for e in events if isinstance(e, Exposure)]
    for scan in ("series-7", "series-8"):
        found = sorted(e.frame.index for e in exposures if e.frame.scan == scan)
        assert found == list(range(FRAMES))
    for e in exposures:
        middle = 10 * e.frame.index + 4.5
        assert e.mean_m == pytest.approx((-2e-10 * middle, 7e-10 * middle), abs=1e-18)
        top, left = BEAM[0] - 16, COLS - 1 - BEAM[1] - 16
        window = lit(e.frame.index)[:, ::-1][top : top + 32, left : left + 32]
        wanted = np.where(window >= 65534, 65535, window)
        assert (e.frame.counts == wanted).all()
