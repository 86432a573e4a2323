"""Tape, replay's timing, and a long run."""

import json
import os
import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from zlib import crc32

import numpy as np

from ptystream.ingest.endpoint import parse_endpoint
from ptystream.ingest.process import ReceiverProcess
from ptystream.tape.format import Record
from ptystream.tape.log import TapeWriter
from tools.benchmarks.costs import drained
from tools.benchmarks.figures import Figure, interleaved, median, ratio
from tools.benchmarks.flood import SCANS, frames
from tools.benchmarks.receiver import line_of, process

MIB = 1 << 20
AT_ONCE = 64
"""Records that are written together, as a recorder's thread does when it is behind."""
HEAD = struct.Struct("<IIQQ8x")
GAP_NS = 1_000_000
"""Between two messages of the tape whose replay is timed."""
LONG_RATE_HZ, LONG_S, LONG_QUICK_S = 2000.0, 600.0, 15.0
SETTLED = 0.1
"""Share of a long run after which memory counts as settled."""


def tape(quick: bool) -> Iterator[Figure]:
    """Yield a tape's rate over that of a bare append with a checksum."""
    for encoding in ("raw", "bslz4"):
        yield from _tape(encoding, quick)


def _tape(encoding: str, quick: bool) -> Iterator[Figure]:
    count, repeats = (640, 5) if quick else (1920, 9)
    records = [
        Record("det", tuple(parts), i, i)
        for i, parts in enumerate(frames(SCANS[encoding], count))
    ]
    batches = [records[i : i + AT_ONCE] for i in range(0, count, AT_ONCE)]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "a.tape"
        tasks: dict[str, Callable[[], object]] = {
            "bare": lambda: _append_bare(place, batches),
            "tape": lambda: _append_tape(place, batches),
        }
        seconds = interleaved(tasks, repeats=repeats, calls=1)
    rates = {name: [count / s for s in spent] for name, spent in seconds.items()}
    what = f"256 x 256 {encoding}"
    yield median(f"bare append with checksum, {what}", rates["bare"], "frames/s")
    yield median(f"tape, {what}", rates["tape"], "frames/s")
    name = f"tape / bare append with checksum, {what}"
    yield ratio(name, rates["tape"], rates["bare"], target=0.9, bound="at least")


def _append_bare(place: Path, batches: list[list[Record]]) -> None:
    """Append a head with a crc32 and the parts of each record, and nothing else."""
    fd = os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    for batch in batches:
        buffers = []
        for record in batch:
            crc = size = 0
            for part in record.parts:
                crc, size = crc32(part, crc), size + len(part)
            buffers += [HEAD.pack(crc, size, record.mono_ns, record.wall_ns)]
            buffers += record.parts
        os.writev(fd, buffers)
    os.close(fd)
    place.unlink()


def _append_tape(place: Path, batches: list[list[Record]]) -> None:
    with TapeWriter(place, {}) as writer:
        for batch in batches:
            writer.append_batch(batch)
    place.unlink()


def replay(quick: bool) -> Iterator[Figure]:
    """Yield by how much gaps between messages differ from the tape's 1 ms."""
    count = 1000 if quick else 5000
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "khz.tape"
        taps = [{"stream": "det", "protocol": "ptys", "pattern": "pull"}]
        with TapeWriter(place, {"taps": taps}) as writer:
            writer.append_batch(
                Record("det", tuple(parts), i * GAP_NS, 0)
                for i, parts in enumerate(frames(SCANS["small"], count))
            )
        for flags, label in (((), ""), (("--realtime",), ", real-time scheduling")):
            gaps_ms = _replayed(place, count, flags)
            for share, bound in ((50, 2.0), (99, 2.0), (99.9, None), (100, None)):
                value = float(np.percentile(np.abs(gaps_ms - 1), share))
                shown = "largest" if share == 100 else f"{share:g} %"
                name = f"replay at 1 kHz, error of a gap, {shown}{label}"
                yield Figure(name, value, "ms", bound)


def _replayed(place: Path, count: int, flags: tuple[str, ...]) -> np.ndarray:
    """Return the gaps between messages as another process got them, in ms."""
    words = ("replay", "-q", str(place), "--detector=tcp://127.0.0.1:*", *flags)
    with process(*words, module="ptystream.cli") as sender:
        address = json.loads(line_of(sender))["det"]
        with process("stamp", str(count), address) as listener:
            stamps = json.loads(line_of(listener))
    return np.diff(stamps) / 1e6


def long(quick: bool) -> Iterator[Figure]:
    """Yield losses and growth of memory in ten minutes at 2 kHz, 128 x 128."""
    seconds = LONG_QUICK_S if quick else LONG_S
    count = round(LONG_RATE_HZ * seconds)
    began_s = time.monotonic()
    memory: list[tuple[float, float]] = []

    with ExitStack() as stack:
        words = ("pace", str(count), str(LONG_RATE_HZ), "small", "1")
        sender = stack.enter_context(process(*words))
        url = line_of(sender).strip().replace("tcp", "ptys+sub")
        receiver = stack.enter_context(ReceiverProcess(parse_endpoint(url)))

        def look() -> None:
            now_s = time.monotonic() - began_s
            if not memory or now_s - memory[-1][0] > 1.0:
                memory.append((now_s, _resident_mib(receiver.pid) + _resident_mib()))

        stats = drained(receiver, sender, look)
        late_s = float(line_of(sender))
    settled = [mib for at_s, mib in memory if at_s > SETTLED * seconds]
    label = f"{seconds:g} s at 2 kHz, 128 x 128"
    yield Figure(f"{label}: frames lost", count - stats.frames, "frames", 0)
    yield Figure(f"{label}: last frame sent late by", late_s, "s")
    yield Figure(f"{label}: memory", statistics.median(settled), "MiB")
    growth = statistics.median(settled[-5:]) - statistics.median(settled[:5])
    yield Figure(f"{label}: growth of memory", growth, "MiB", 2.0)


def _resident_mib(pid: int | None = None) -> float:
    """Return the memory of a process (None: this one) that is its own."""
    statm = Path(f"/proc/{pid or 'self'}/statm").read_text().split()
    own_pages = int(statm[1]) - int(statm[2])  # without the shared ring
    return own_pages * os.sysconf("SC_PAGE_SIZE") / MIB
