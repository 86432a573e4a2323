"""Our receiver beside LiberTEM-live's on the same DECTRIS stream.

Both read frames from a PUSH socket, decompress them, and give them to a reader as
arrays. What counts are frames per second of processor, of all processes and threads.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.benchmarks.figures import Figure, median, ratio
from tools.benchmarks.receiver import Process, line_of
from tools.rivals.environments import LIBERTEM, runner
from tools.rivals.race import RUNNERS
from tools.rivals.receiving import NAMES

FRAMES, QUICK_FRAMES = 3000, 1000
REPEATS, QUICK_REPEATS = 5, 3
SIDE = 512
OWN = (sys.executable, "-m", "tools.rivals.receiving")


def ingest(python: Path, *, quick: bool) -> Iterator[Figure]:
    """Yield frames per second of processor of both, and the ratio; taken in turns."""
    frames = QUICK_FRAMES if quick else FRAMES
    rates: dict[str, list[float]] = {name: [] for name in NAMES}
    lost = dict.fromkeys(NAMES, 0)
    with _running((*OWN, "send", str(frames), str(SIDE))) as sender:
        addresses = json.loads(line_of(sender))
        for _ in range(QUICK_REPEATS if quick else REPEATS):
            for name in NAMES:
                found = _received(name, addresses[name], frames, sender, python)
                rates[name].append(found["frames"] / found["cpu_s"])
                lost[name] += frames - int(found["frames"])
    what = f"{SIDE} x {SIDE} uint16 bslz4, frames a processor second"
    yield median(f"ptystream, {what}", rates["ours"], "frames/s")
    yield median(f"{LIBERTEM.package}, {what}", rates["theirs"], "frames/s")
    yield ratio(
        f"ptystream / libertem-dectris, {what}",
        rates["ours"],
        rates["theirs"],
        target=1.0,
        bound="at least",
    )
    for name, count in lost.items():
        yield Figure(f"frames lost, {name}", count, "frames", 0)


def _received(
    name: str, address: str, frames: int, sender: Process, python: Path
) -> dict[str, float]:
    """Return what one receiver says of one series."""
    words = (*OWN, "ours", address, str(frames))
    if name == "theirs":
        script = str(RUNNERS / runner(LIBERTEM))
        words = (str(python), script, address, str(frames), str(SIDE))
    with _running(words) as receiver:
        line_of(receiver)
        if sender.stdin is not None:
            sender.stdin.write(f"{name}\n")
            sender.stdin.flush()
        return json.loads(line_of(receiver))


@contextmanager
def _running(words: Sequence[str]) -> Iterator[Process]:
    """Start a command, and end it."""
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as child:
        try:
            yield child
        finally:
            child.kill()
