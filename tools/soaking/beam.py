"""A beamline that sends as many frames as asked, at rates that change within a scan.

``python -m tools.soaking.beam`` binds two senders and prints their addresses as a line
of JSON. For each line of JSON on stdin, a list of ``[rate_hz, seconds]``, it sends one
scan, part after part, and prints a line on what was sent. The patterns are computed
and compressed once, and used again and again: sending one takes some 40 us.
"""

import json
import sys
import time
import uuid
from dataclasses import replace
from typing import Any

import numpy as np

from ptystream.ingest.sender import Sender
from ptystream.sim.experiment import Experiment, build
from ptystream.sim.settings import preset
from ptystream.wire.envelope import EncodedFrame, encode_frame
from ptystream.wire.messages import Frame, Samples, ScanEnd, ScanStart

SHAPE = (40, 40)
SIZE_PX = 64
NAP_S = 0.002
"""Frames due in so short a time go out together: 2 kHz is more than sleep can keep."""
WAIT_S = 90.0


class Beam:
    """One experiment, sent in passes; a scan of many passes covers the same area."""

    def __init__(self, detector: Sender, encoder: Sender) -> None:
        self._detector, self._encoder = detector, encoder
        self._made = build(
            preset("demo", {"scan": {"shape": SHAPE}, "detector": {"size_px": SIZE_PX}})
        )
        self._frames = _encoded(self._made)
        self._place_m = self._made.positions_m(0)

    def scan(self, parts: list[tuple[float, float]]) -> dict[str, Any]:
        """Send one scan of these (rate_hz, seconds); return what was sent.

        ``parts_s`` are the moments (monotonic) at which parts began, and the end.
        """
        scan, sent, late_s = str(uuid.uuid4()), 0, 0.0
        refused = self._refused()
        shape = (SIZE_PX, SIZE_PX)
        start = ScanStart(scan, "det", shape, "<u2", geometry=self._made.geometry)
        self._detector.send(replace(start, meta=self._made.meta))
        self._encoder.send(ScanStart(scan, "pos"))
        began_s: list[float] = []
        for rate_hz, seconds in parts:
            began_s.append(time.monotonic())
            sent, part_late_s = self._part(scan, sent, rate_hz, seconds)
            late_s = max(late_s, part_late_s)
        ended_s = time.monotonic()
        self._encoder.send(ScanEnd(scan, "pos", "complete"))
        self._detector.send(ScanEnd(scan, "det", "complete"))
        refused = self._refused() - refused
        return {
            "scan": scan,
            "frames": sent,
            "refused": refused,
            "parts_s": [*began_s, ended_s],
            "late_s": late_s,
        }

    def idle(self) -> None:
        """Say that it lives."""
        self._detector.idle()
        self._encoder.idle()

    def _part(
        self, scan: str, first: int, rate_hz: float, seconds: float
    ) -> tuple[int, float]:
        """Send frames at one rate; return the next index, and the worst delay."""
        began_s, index, late_s = time.monotonic(), first, 0.0
        stop = first + round(rate_hz * seconds)
        while index < stop:
            passed_s = time.monotonic() - began_s
            due = min(stop, first + 1 + int(passed_s * rate_hz))
            if due > index:
                late_s = max(late_s, passed_s - (index - first) / rate_hz)
                self._expose(scan, index, due)
                index = due
            else:
                time.sleep(NAP_S)
        return stop, late_s

    def _expose(self, scan: str, first: int, stop: int) -> None:
        """Send these frames and their positions."""
        numbers = np.arange(first, stop)
        place_m = self._place_m[numbers % len(self._place_m)]
        self._encoder.send(Samples(scan, first, 1, place_m))
        for index in range(first, stop):
            frame = self._frames[index % len(self._frames)]
            self._detector.send(replace(frame, scan=scan, index=index))

    def _refused(self) -> int:
        """Return the messages that a full queue has refused."""
        return self._detector.stats.dropped + self._encoder.stats.dropped


def _encoded(made: Experiment) -> list[EncodedFrame]:
    frames = (Frame("", i, counts) for i, counts in enumerate(made.frames(0)))
    return [encode_frame(frame, "bslz4") for frame in frames]


def main() -> int:
    """Send a scan for each line on stdin, until it closes."""
    with Sender() as detector, Sender() as encoder:
        beam = Beam(detector, encoder)
        where = {
            "detector": detector.address.replace("tcp", "ptys+sub"),
            "positions": encoder.address.replace("tcp", "ptys+sub"),
        }
        print(json.dumps(where), flush=True)
        for sender in (detector, encoder):
            if not sender.wait_for_subscribers(WAIT_S):
                return 1
        for line in sys.stdin:
            beam.idle()
            print(json.dumps(beam.scan(json.loads(line))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
