"""Frames per second into the shared ring, over those of a loop that only receives."""

import contextlib
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ptystream.errors import StoppedError
from ptystream.ingest.endpoint import parse_endpoint
from ptystream.ingest.preprocess_options import Crop
from ptystream.ingest.process import ReceiverProcess, ReceiverStats
from ptystream.wire.messages import Frame
from tools.benchmarks.figures import Figure, median, ratio

Process = subprocess.Popen[str]
RING_BYTES = 256 << 20
FRAME_BYTES = 256 * 256 * 2
LIMIT_S = 60.0
SHARE = 0.75
"""Of a bare loop's rate, that a receiver is to reach."""
CROP = (387, 404, 256, 256)
"""The middle of 1030 x 1065."""

Turns = tuple[tuple[str, str], ...]
ROUNDS: Turns = (
    ("bare", "raw"),
    ("ring", "raw"),
    ("decode", "bslz4"),
    ("ring", "bslz4"),
)
LARGE_ROUNDS: Turns = (("decode", "large"), ("ring", "large"))


def receiver(quick: bool) -> Iterator[Figure]:
    """Yield rates and ratios for 256 x 256 uint16, raw and bslz4, over loopback TCP."""
    frames, repeats = (200, 5) if quick else (1500, 9)
    rates = _rates(ROUNDS, frames, repeats)
    for encoding, bare in (("raw", "bare"), ("bslz4", "decode")):
        label = "bare loop" if encoding == "raw" else "bare loop + decompression"
        yield from _figures(
            label, encoding, rates["ring", encoding], rates[bare, encoding]
        )


def cropped(quick: bool) -> Iterator[Figure]:
    """Yield the same for 1030 x 1065 uint16 in bslz4, cropped to 256 x 256."""
    frames, repeats = (50, 5) if quick else (300, 9)
    rates = _rates(LARGE_ROUNDS, frames, repeats, crop=CROP)
    label = "bare loop + decompression"
    what = "1030 x 1065 bslz4 cropped to 256 x 256"
    yield from _figures(label, what, rates["ring", "large"], rates["decode", "large"])


def _figures(
    label: str, what: str, ring: list[float], floor: list[float]
) -> Iterator[Figure]:
    yield median(f"{label}, {what}", floor, "frames/s")
    yield median(f"receiver into ring, {what}", ring, "frames/s")
    name = f"receiver into ring / {label}, {what}"
    yield ratio(name, ring, floor, target=SHARE, bound="at least")


def _rates(
    turns: Turns, frames: int, repeats: int, crop: Crop | None = None
) -> dict[tuple[str, str], list[float]]:
    """Return the rates of each turn, taken in turns; the first round isn't kept."""
    rates: dict[tuple[str, str], list[float]] = {turn: [] for turn in turns}
    decoded = next(scan for name, scan in turns if name == "decode")
    with contextlib.ExitStack() as stack:
        bench = _Bench(frames, stack, decoded, crop)
        for repeat in range(repeats + 1):
            for turn in turns:
                rate = bench.rate(*turn)
                if repeat:
                    rates[turn].append(rate)
    return rates


class _Bench:
    """A sender, two bare loops and the receiver process, one of them busy at a time."""

    def __init__(
        self,
        frames: int,
        stack: contextlib.ExitStack,
        decoded: str,
        crop: Crop | None,
    ) -> None:
        if frames * (FRAME_BYTES + 512) > RING_BYTES:
            raise ValueError(f"{frames} frames don't fit the ring")
        self._frames = frames
        self._sender = stack.enter_context(process("send", str(frames)))
        addresses = json.loads(line_of(self._sender))
        self._loops = {
            "bare": stack.enter_context(
                process("receive", str(frames), addresses["bare"])
            ),
            "decode": stack.enter_context(
                process("receive", str(frames), addresses["decode"], decoded)
            ),
        }
        endpoint = parse_endpoint(addresses["ring"].replace("tcp", "ptys+pull"))
        self._receiver = stack.enter_context(
            ReceiverProcess(endpoint, ring_bytes=RING_BYTES + (32 << 20), crop=crop)
        )

    def rate(self, name: str, encoding: str) -> float:
        """Return the frames per second of one scan."""
        if self._sender.stdin is None:
            raise StoppedError("the sender has no stdin")
        before = self._receiver.stats()
        self._sender.stdin.write(f"{name} {encoding}\n")
        self._sender.stdin.flush()
        if name == "ring":
            return self._ring_rate(before)
        return float(line_of(self._loops[name]))

    def _ring_rate(self, before: ReceiverStats) -> float:
        """Wait for the scan to be in the ring, then empty it.

        The ring is read only afterwards: on two cores, a reader beside sender and
        receiver would take time from one of them. Frames carry their arrival times.
        """
        arrived: list[float] = []
        deadline_s = time.monotonic() + LIMIT_S
        while (now := self._receiver.stats()).frames - before.frames < self._frames:
            if time.monotonic() > deadline_s or now.ring_full > before.ring_full:
                raise StoppedError(f"receiver stands at {now}")
            time.sleep(0.01)
        while len(arrived) < self._frames:
            messages = self._receiver.drain()
            arrived += [m.arrived_s for m in messages if isinstance(m, Frame)]
        return (self._frames - 1) / (arrived[-1] - arrived[0])


@contextlib.contextmanager
def process(*words: str, module: str = "tools.benchmarks.flood") -> Iterator[Process]:
    """Start a module's command, and end it."""
    command = [sys.executable, "-m", module, *words]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: Process) -> str:
    """Return the next line that a process prints; StoppedError if none comes."""
    if (
        process.stdout is not None
        and select.select([process.stdout], [], [], LIMIT_S)[0]
    ):
        line = process.stdout.readline()
        if line:
            return line
    raise StoppedError(f"{process.args} said nothing within {LIMIT_S:g} s")
