"""What a service's processes hold, looked at from outside; Linux only."""

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from tools.benchmarks.live_memory import KIB_A_MIB, family, resident_kib, text_of

RECEIVER = "ptystream.ingest.receiver"
NAMED = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Held:
    """One process: private and shared memory, open files, threads.

    ``segments`` are open files of anonymous shared memory, which no folder lists.
    """

    own_mib: float
    shared_mib: float
    files: int
    threads: int
    segments: int


def held(pid: int) -> Held:
    """Return what a process holds; zeros once it is gone."""
    kib = resident_kib(pid)
    links = [_link(file) for file in _names(Path(f"/proc/{pid}/fd"))]
    return Held(
        own_mib=round(kib["RssAnon"] / KIB_A_MIB, 3),
        shared_mib=round(kib["RssShmem"] / KIB_A_MIB, 3),
        files=len(links),
        threads=len(_names(Path(f"/proc/{pid}/task"))),
        segments=sum(link.startswith("/memfd:") for link in links),
    )


def processes(pid: int) -> dict[str, int]:
    """Return the service and its receiver by name, and others by number."""
    found = {"service": pid}
    for child in family(pid)[1:]:
        receives = RECEIVER in text_of(Path(f"/proc/{child}/cmdline"))
        found["receiver" if receives else f"process {child}"] = child
    return found


def named_segments(pids: Collection[int]) -> set[Path]:
    """Return the files of shared memory that these hold: they could outlive them."""
    maps = "".join(text_of(Path(f"/proc/{pid}/maps")) for pid in pids)
    mapped = {line.partition("/")[2] for line in maps.splitlines()}
    links = {_link(file) for pid in pids for file in _names(Path(f"/proc/{pid}/fd"))}
    found = {Path("/" + name) for name in mapped} | {Path(link) for link in links}
    return {path for path in found if path.parent == NAMED}


def processor_s(pids: Iterable[int]) -> float:
    """Return the processor time that these have used."""
    ticks = 0
    for pid in pids:
        fields = text_of(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12]) if fields else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def _names(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except (FileNotFoundError, ProcessLookupError):
        return ""
