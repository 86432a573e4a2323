"""A beamline within the test: good data whose order and company the test decides."""

import uuid
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np

from ptystream.ingest.sender import Sender
from ptystream.sim.experiment import Experiment, build
from ptystream.sim.settings import preset
from ptystream.wire.messages import Frame, Message, Samples, ScanEnd, ScanStart
from tests.system.processes import SERVED

PER_FRAME = 10


@cache
def experiment() -> tuple[Experiment, np.ndarray]:
    """Return a small experiment, and its counts ``[144, 32, 32]``."""
    made = build(
        preset(
            "demo",
            {
                "scan": {"shape": (12, 12)},
                "detector": {"size_px": 32},
                "optics": {"outer_zone_m": 100e-9},
            },
        )
    )
    return made, np.stack(list(made.frames(0)))


class Beam:
    """Two senders on free ports; a scan goes out as fast as it is taken."""

    def __enter__(self) -> Self:
        self.experiment, self.counts = experiment()
        self.rows_m = self.experiment.samples_m(0)
        with ExitStack() as stack:
            self.detector = stack.enter_context(Sender())
            self.encoder = stack.enter_context(Sender())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def endpoints(self) -> dict[str, str]:
        """Return the URLs that a service or a recorder takes."""
        return {
            "detector": self.detector.address.replace("tcp", "ptys+sub"),
            "positions": self.encoder.address.replace("tcp", "ptys+sub"),
        }

    def serve_flags(self, folder: Path, *more: str) -> list[str]:
        """Return what a service is told that shall listen to this."""
        where = [f"--{name}={url}" for name, url in self.endpoints.items()]
        return [*where, f"--results={folder}", *SERVED, *more]

    def wait(self, readers: int = 1) -> None:
        """Return once so many subscribe to both streams."""
        for sender in (self.detector, self.encoder):
            assert sender.wait_for_subscribers(60, readers), "nobody came"

    def send(self, stream: str, item: Message | list[bytes]) -> None:
        """Send a message with its number, or raw parts without."""
        sender = self.detector if stream == "det" else self.encoder
        if isinstance(item, list):
            sender._socket.send_multipart(item)
        else:
            assert sender.send(item, "bslz4", wait_s=10), "the reader is stuck"

    def start(self, **changes: object) -> str:
        """Start both streams; return the scan's uid."""
        scan = str(uuid.uuid4())
        values: dict[str, object] = {
            "shape": (32, 32),
            "dtype": "<u2",
            "geometry": self.experiment.geometry,
            "meta": self.experiment.meta,
        }
        self.send("det", ScanStart(scan, "det", **(values | changes)))
        self.send("pos", ScanStart(scan, "pos"))
        return scan

    def frame(self, scan: str, index: int) -> Frame:
        """Return one of the frames."""
        return Frame(scan, index, self.counts[index])

    def expose(self, scan: str, first: int, stop: int) -> None:
        """Send these frames and their positions."""
        rows = self.rows_m[first * PER_FRAME : stop * PER_FRAME]
        self.send("pos", Samples(scan, first * PER_FRAME, PER_FRAME, rows))
        for index in range(first, stop):
            self.send("det", self.frame(scan, index))

    def place(self, scan: str, index: int) -> None:
        """Send the positions of one frame."""
        rows = self.rows_m[index * PER_FRAME : (index + 1) * PER_FRAME]
        self.send("pos", Samples(scan, index * PER_FRAME, PER_FRAME, rows))

    def end(self, scan: str, sent: int | None = None) -> None:
        """End both streams."""
        self.send("pos", ScanEnd(scan, "pos", "complete", 0))
        self.send("det", ScanEnd(scan, "det", "complete", sent))

    def scan(self) -> str:
        """Send a whole scan; return its uid."""
        scan = self.start()
        self.expose(scan, 0, len(self))
        self.end(scan)
        return scan
