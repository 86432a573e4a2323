"""The recording on disk: append-only, whole after SIGKILL at any byte.

What was appended is with the operating system when ``append`` returns; what
survives a power cut is what was synced. A damaged record costs itself alone.
"""

import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

from ptystream import __version__
from ptystream.errors import TapeError
from ptystream.tape import format as fmt
from ptystream.tape.format import Part, Record

SCAN_BYTES = 1 << 20
"""Read at once when looking for the next record after damage."""
IOV_MAX = 1024
"""Buffers that one writev takes, on Linux and macOS."""
DAMAGE_OFFSETS = 100
"""Places of damage kept by name; more are only counted."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What a pass over a tape could not read; false if it read everything.

    ``regions`` counts damaged stretches, ``offsets`` names the first 100 of them.
    ``torn_at`` is where a record was cut off by the end of the file: a recorder
    that was killed, or one that is still writing.
    """

    regions: int = 0
    offsets: tuple[int, ...] = ()
    skipped_bytes: int = 0
    torn_at: int | None = None
    torn_bytes: int = 0
    header_lost: bool = False

    def __bool__(self) -> bool:
        return bool(self.regions or self.torn_bytes or self.header_lost)


class Glance(NamedTuple):
    """A record without its parts: where it begins and ends on the tape, and when."""

    stream: str
    offset: int
    end: int
    parts_bytes: int
    mono_ns: int
    wall_ns: int


class TapeReader:
    """Iterates over the records of a tape, from its start each time.

    Damage is skipped up to the next whole record, and told in ``damage``: that of the
    last iteration begun, as far as it went. Only TapeError is raised: by entering it,
    or if the disk fails.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.header: Mapping[str, Any] = {}
        self.damage = Damage()
        self._header_lost = True
        self._first = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        try:
            self._file = self.path.open("rb", buffering=SCAN_BYTES)
            self._read_header()
        except (OSError, TapeError) as e:
            self._close()
            raise TapeError(f"{self.path}: {e}") from e
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def __iter__(self) -> Iterator[Record]:
        return self.records(self._first)

    def records(self, at: int) -> Iterator[Record]:
        """Yield the records from this offset to where the tape ends now."""
        size = self._size()
        self.damage = damage = Damage(header_lost=self._header_lost)
        while at < size:
            record = self._record(at, size)
            if record is not None:
                yield record
                at += record_bytes(record)
                continue
            at, self.damage = self._past_damage(damage, at, size)
            damage = self.damage

    def glances(self, at: int = 0) -> Iterator[Glance]:
        """Yield what the records' heads say, from this offset, without the parts.

        The parts aren't checked; ``damage`` tells only of damaged heads.
        """
        size, at = self._size(), at or self._first
        self.damage = damage = Damage(header_lost=self._header_lost)
        while at < size:
            front = self._front(at, size)
            if front is not None:
                head, stream, sizes = front
                end = at + fmt.HEAD_BYTES + head.body_bytes
                yield Glance(stream, at, end, sum(sizes), head.mono_ns, head.wall_ns)
                at = end
                continue
            at, self.damage = self._past_damage(damage, at, size)
            damage = self.damage

    def check(self) -> Damage:
        """Read the whole tape and tell its damage."""
        for _ in self:
            pass
        return self.damage

    @property
    def first(self) -> int:
        """Return the offset of the first record."""
        return self._first

    def fileno(self) -> int:
        """Return the descriptor of the open tape."""
        return self._opened().fileno()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read_header(self) -> None:
        size, crc = fmt.decode_preamble(self._read(0, fmt.PREAMBLE.size))
        self._first = fmt.PREAMBLE.size
        if size > min(fmt.MAX_HEADER_BYTES, self._size() - self._first):
            return
        header = fmt.decode_header(self._read(self._first, size), crc)
        if header is not None:
            self.header = header
            self._header_lost = False
            self._first += size

    def _size(self) -> int:
        return os.fstat(self._opened().fileno()).st_size

    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise TapeError(f"{self.path}: not open: use it in a with statement")
        return self._file

    def _read(self, at: int, size: int) -> bytes:
        file = self._opened()
        try:
            file.seek(at)
            return file.read(size)
        except OSError as e:
            raise TapeError(f"{self.path}: at byte {at}: {e}") from e

    def _front(
        self, at: int, size: int
    ) -> tuple[fmt.Head, str, tuple[int, ...]] | None:
        """Return a record's head, stream and parts' lengths, if they are right."""
        raw = self._read(at, fmt.HEAD_BYTES)
        head = fmt.decode_head(raw)
        at_front = at + fmt.HEAD_BYTES
        if head is None or at_front + head.body_bytes > size:
            return None
        front = fmt.decode_front(head, raw, self._read(at_front, head.front_bytes), at)
        return None if front is None else (head, *front)

    def _record(self, at: int, size: int) -> Record | None:
        """Return the record there, if it is whole and right."""
        front = self._front(at, size)
        if front is None:
            return None
        head, stream, sizes = front
        body = self._read(at + fmt.HEAD_BYTES + head.front_bytes, sum(sizes))
        parts = fmt.decode_parts(head, body, sizes)
        if parts is None:
            return None
        return Record(stream, parts, head.mono_ns, head.wall_ns, at, head.parts_crc)

    def _resync(self, at: int, size: int) -> int | None:
        """Return where the next whole record begins."""
        while at < size:
            window = self._read(at, SCAN_BYTES)
            hit = window.find(fmt.SYNC)
            while hit >= 0:
                if self._record(at + hit, size) is not None:
                    return at + hit
                hit = window.find(fmt.SYNC, hit + 1)
            if len(window) < SCAN_BYTES:
                return None
            at += SCAN_BYTES - len(fmt.SYNC) + 1
        return None

    def _past_damage(self, old: Damage, at: int, size: int) -> tuple[int, Damage]:
        """Return where to go on, and the damage with the stretch that begins here."""
        found = self._resync(at + 1, size)
        if found is None and self._torn(at, size):
            return size, replace(old, torn_at=at, torn_bytes=size - at)
        end = size if found is None else found
        return end, replace(
            old,
            regions=old.regions + 1,
            offsets=(*old.offsets, at)[:DAMAGE_OFFSETS],
            skipped_bytes=old.skipped_bytes + end - at,
        )

    def _torn(self, at: int, size: int) -> bool:
        """Tell a record that the end of the file cut off from a damaged one."""
        raw = self._read(at, fmt.HEAD_BYTES)
        if len(raw) < fmt.HEAD_BYTES:
            return raw[:4] == fmt.SYNC[: len(raw)]
        head = fmt.decode_head(raw)
        return head is not None and at + fmt.HEAD_BYTES + head.body_bytes > size


def record_bytes(record: Record) -> int:
    """Return how long the record is on a tape."""
    name = len(record.stream.encode())
    parts = sum(4 + len(part) for part in record.parts)
    return fmt.HEAD_BYTES + name + parts


class TapeWriter:
    """Appends to a new tape; with ``resume`` to an old one, its torn tail cut off.

    One thread, and one writer per tape: a second is refused. ``fsync_s`` is the
    longest time between syncs while records come (None: leave it to the system).
    Every failure is a TapeError; a tape that exists is never overwritten.
    """

    def __init__(
        self,
        path: str | Path,
        header: Mapping[str, Any],
        *,
        fsync_s: float | None = None,
        resume: bool = False,
    ) -> None:
        self.path = Path(path)
        self.bytes = 0
        self._header = header
        self._fsync_s = fsync_s
        self._resume = resume
        self._fd = -1
        self._synced_s = 0.0

    def __enter__(self) -> Self:
        try:
            self._open()
        except (OSError, TapeError) as e:
            self._close()
            raise TapeError(f"{self.path}: {e}") from e
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._fsync_s is not None:
                os.fsync(self._fd)
        except OSError as e:
            raise TapeError(f"{self.path}: the last sync failed: {e}") from e
        finally:
            self._close()

    def append(
        self, stream: str, parts: Sequence[Part], mono_ns: int, wall_ns: int
    ) -> None:
        """Write one message; when this returns, a killed process loses nothing."""
        self.append_batch([Record(stream, tuple(parts), mono_ns, wall_ns)])

    def append_batch(self, records: Iterable[Record]) -> None:
        """Write several messages at once; either all are on the tape or none is."""
        buffers: list[Part] = []
        end = self.bytes
        for record in records:
            encoded, size = fmt.encode_record(record, end)
            end += size
            buffers += encoded
        self._write(buffers)
        self.bytes = end
        self._sync_if_due()

    def _open(self) -> None:
        flags = os.O_RDWR if self._resume else os.O_RDWR | os.O_CREAT | os.O_EXCL
        self._fd = os.open(self.path, flags | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._synced_s = time.monotonic()
        if self._resume:
            self._cut_torn_tail()
            return
        header = fmt.encode_header(self._described())
        self._write([header])
        self.bytes = len(header)

    def _described(self) -> dict[str, Any]:
        """Return the header with what tells a stranger how to read the file."""
        return {
            **self._header,
            "format": "ptystream tape",
            "version": fmt.VERSION,
            "record": fmt.RECORD_LAYOUT,
            "software": f"ptystream {__version__}",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def _cut_torn_tail(self) -> None:
        with TapeReader(self.path) as reader:
            torn_at = reader.check().torn_at
        if torn_at is not None:
            os.ftruncate(self._fd, torn_at)
        self.bytes = os.lseek(self._fd, 0, os.SEEK_END)

    def _write(self, buffers: list[Part]) -> None:
        try:
            for first in range(0, len(buffers), IOV_MAX):
                write_all(self._fd, buffers[first : first + IOV_MAX])
        except OSError as e:
            self._back_to_last_record()
            raise TapeError(f"{self.path}: {e}") from e

    def _back_to_last_record(self) -> None:
        """After a failed write (a full disk), leave whole records only, if we can."""
        try:
            os.ftruncate(self._fd, self.bytes)
            os.lseek(self._fd, self.bytes, os.SEEK_SET)
        except OSError:
            return  # the tail stays torn, which the reader knows

    def _sync_if_due(self) -> None:
        now = time.monotonic()
        if self._fsync_s is None or now - self._synced_s < self._fsync_s:
            return
        try:
            os.fsync(self._fd)
        except OSError as e:
            raise TapeError(f"{self.path}: sync failed: {e}") from e
        self._synced_s = now

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def write_all(fd: int, buffers: Sequence[Part]) -> None:
    """Write all buffers, mostly with one writev; go on where a short one stopped."""
    written = os.writev(fd, buffers)
    if written == sum(map(len, buffers)):
        return
    views = [memoryview(buffer) for buffer in buffers]
    while views:
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]
        if views:
            written = os.writev(fd, views)
