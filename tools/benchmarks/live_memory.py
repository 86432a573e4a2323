"""The memory of a process and all that it started, from outside."""

from dataclasses import dataclass
from pathlib import Path

KIB_A_MIB = 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in MiB: all, shared memory counted once; and what is private."""

    all_mib: float = 0.0
    own_mib: float = 0.0

    def peak(self, other: "Memory") -> "Memory":
        """Return the larger of each."""
        return Memory(
            max(self.all_mib, other.all_mib), max(self.own_mib, other.own_mib)
        )


@dataclass(frozen=True, slots=True)
class Grown:
    """Peaks of a long and of a short scan, and the size of the further frames."""

    long: Memory
    short: Memory
    frames_mib: float

    @property
    def share(self) -> float:
        """Private memory that came on top, over those frames: 1 if all were kept."""
        return (self.long.own_mib - self.short.own_mib) / self.frames_mib


def memory_of(pid: int) -> Memory:
    """Return what a process and its descendants hold now; Linux only."""
    found = [resident_kib(p) for p in family(pid)]
    own = sum(kib["RssAnon"] for kib in found)
    files = sum(kib["RssFile"] for kib in found)
    shared = max((kib["RssShmem"] for kib in found), default=0)
    return Memory((own + files + shared) / KIB_A_MIB, own / KIB_A_MIB)


def family(pid: int) -> list[int]:
    """Return the process and its descendants that still run."""
    found = [pid]
    for parent in found:
        for listed in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in text_of(listed).split()]
    return found


def resident_kib(pid: int) -> dict[str, int]:
    """Return a process' memory by kind; zeros once it is gone."""
    kib = {"RssAnon": 0, "RssFile": 0, "RssShmem": 0}
    for line in text_of(Path(f"/proc/{pid}/status")).splitlines():
        name, _, value = line.partition(":")
        if name in kib:
            kib[name] = int(value.split()[0])
    return kib


def text_of(path: Path) -> str:
    """Return what /proc says; nothing of a process that has just gone."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
