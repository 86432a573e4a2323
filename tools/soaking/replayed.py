"""One small scan, sent again and again under new names, at a pace of one's own."""

import uuid
from dataclasses import replace
from typing import Self

from ptystream.ingest.sender import Sender
from ptystream.sim.experiment import build
from ptystream.sim.settings import preset
from ptystream.wire.envelope import encode_frame
from ptystream.wire.messages import Frame, Samples, ScanEnd, ScanStart

SHAPE = (12, 12)
SIZE_PX = 32
FRAMES = SHAPE[0] * SHAPE[1]
PER_FRAME = 10


class Replayed:
    """Two senders on free ports, which stay while readers come and go."""

    def __init__(self) -> None:
        self.made = build(
            preset(
                "demo",
                {
                    "scan": {"shape": SHAPE},
                    "detector": {"size_px": SIZE_PX},
                    "optics": {"outer_zone_m": 100e-9, "photons_per_frame": 2e4},
                },
            )
        )
        frames = enumerate(self.made.frames(0))
        self._frames = [encode_frame(Frame("", i, c), "bslz4") for i, c in frames]
        self._rows_m = self.made.samples_m(0)
        self.detector, self.encoder = Sender(), Sender()

    def __enter__(self) -> Self:
        self.detector.__enter__()
        self.encoder.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.encoder.__exit__(None, None, None)
        self.detector.__exit__(None, None, None)

    @property
    def flags(self) -> list[str]:
        """Return what a reader of both streams is told."""
        return [
            f"--detector={self.detector.address.replace('tcp', 'ptys+sub')}",
            f"--positions={self.encoder.address.replace('tcp', 'ptys+sub')}",
        ]

    def wait(self, readers: int) -> None:
        """Return once so many listen; TimeoutError after a minute."""
        for sender in (self.detector, self.encoder):
            if not sender.wait_for_subscribers(60, readers):
                raise TimeoutError(f"not {readers} readers within a minute")

    def start(self) -> str:
        """Begin a scan; return its uid."""
        scan, shape = str(uuid.uuid4()), (SIZE_PX, SIZE_PX)
        start = ScanStart(scan, "det", shape, "<u2", geometry=self.made.geometry)
        self.detector.send(replace(start, meta=self.made.meta))
        self.encoder.send(ScanStart(scan, "pos"))
        return scan

    def expose(self, scan: str, first: int, stop: int) -> None:
        """Send these frames and their positions."""
        rows_m = self._rows_m[first * PER_FRAME : stop * PER_FRAME]
        self.encoder.send(Samples(scan, first * PER_FRAME, PER_FRAME, rows_m))
        for index in range(first, stop):
            frame = replace(self._frames[index], scan=scan, index=index)
            self.detector.send(frame)

    def end(self, scan: str) -> None:
        """End both streams."""
        self.encoder.send(ScanEnd(scan, "pos", "complete", FRAMES * PER_FRAME))
        self.detector.send(ScanEnd(scan, "det", "complete", FRAMES))
