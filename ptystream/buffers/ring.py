"""A byte ring in shared memory: one writing process, one reading process.

The memory is an anonymous file, inherited by the child as a descriptor: it has no
name, so nothing is left behind after SIGKILL. Records lie contiguous and 64-byte
aligned; one that doesn't fit before the end starts again at the beginning.

When the ring is full the record is refused, never waited for. Ordinary records leave
``reserve_bytes`` free, so that urgent ones (a scan's start and end) still fit.
"""

import contextlib
import mmap
import os
import struct
import tempfile
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from ptystream.errors import StoppedError

_PAGE = 4096
_LINE = 64  # one cache line: head and tail don't share one
_MAGIC = 0x7074_7973_7269_6E67
_HEADER = struct.Struct("=QQQ")  # magic, capacity, reserve
_HEAD_WORD, _TAIL_WORD, _COUNTER_WORD = 8, 16, 32
_SKIP = (1 << 64) - 1  # a record that only fills the space up to the end
# Mapped pages at once: else a frame of 128 kB takes 50 µs more on the first way round.
_MAP = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
MAX_COUNTERS = _PAGE // 8 - _COUNTER_WORD


class Ring:
    """One side of the ring; ``create`` it in the reader, ``attach`` it in the writer.

    ``counters`` are u64 that the writer sets and the reader sees at once.
    """

    def __init__(self, fd: int, memory: mmap.mmap, counters: Sequence[str]) -> None:
        self.fd = fd
        self._memory = memory
        self._bytes = memoryview(memory)
        self._words = self._bytes[:_PAGE].cast("Q")
        self._data = self._bytes[_PAGE:]
        _, self._capacity, self._keep = _HEADER.unpack_from(memory)
        self._slots = {name: _COUNTER_WORD + i for i, name in enumerate(counters)}
        self._lock = threading.Lock()
        self._reserved: memoryview | None = None
        self._peeked: memoryview | None = None
        self._next = 0

    @classmethod
    def create(
        cls,
        capacity_bytes: int,
        *,
        reserve_bytes: int = 0,
        counters: Sequence[str] = (),
    ) -> Self:
        """Make the memory; raise StoppedError if the machine hasn't that much."""
        if not 0 <= reserve_bytes < capacity_bytes or len(counters) > MAX_COUNTERS:
            raise ValueError(f"ring of {capacity_bytes}, reserve {reserve_bytes} bytes")
        capacity = -(-capacity_bytes // _PAGE) * _PAGE
        fd = _anonymous_file(_PAGE + capacity)
        memory = mmap.mmap(fd, _PAGE + capacity, _MAP)
        _HEADER.pack_into(memory, 0, _MAGIC, capacity, reserve_bytes)
        return cls(fd, memory, counters)

    @classmethod
    def attach(cls, fd: int, *, counters: Sequence[str] = ()) -> Self:
        """Map a ring that another process made; raise StoppedError if it isn't one."""
        size = os.fstat(fd).st_size
        if size <= _PAGE:
            raise StoppedError(f"descriptor {fd} holds {size} bytes: not a ring")
        memory = mmap.mmap(fd, size, _MAP)
        magic, capacity, _ = _HEADER.unpack_from(memory)
        if magic != _MAGIC or capacity != size - _PAGE:
            memory.close()
            raise StoppedError(f"descriptor {fd} doesn't hold a ring")
        return cls(fd, memory, counters)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # The writer's side.

    def reserve(self, nbytes: int, *, urgent: bool = False) -> memoryview | None:
        """Return room for a record of up to ``nbytes``; None if the ring is full.

        What is reserved is not seen before ``commit``; a second call forgets it.
        """
        self._drop_reserved()
        size = _LINE + _aligned(nbytes)
        head, free = self._words[_HEAD_WORD], self._capacity - self.used
        to_end = self._capacity - head % self._capacity
        skipped = to_end if size > to_end else 0
        keep = 0 if urgent else self._keep
        if skipped + size + keep > free:
            return None
        if skipped:
            self._put_length(head, _SKIP)
        self._next = head + skipped
        at = self._next % self._capacity + _LINE
        self._reserved = self._data[at : at + nbytes]
        return self._reserved

    def commit(self) -> None:
        """Hand the reserved record to the reader."""
        if self._reserved is None:
            raise ValueError("commit without reserve")
        nbytes = len(self._reserved)
        self._drop_reserved()
        self._put_length(self._next, nbytes)
        self._fence()
        self._words[_HEAD_WORD] = self._next + _LINE + _aligned(nbytes)

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter."""
        self._words[self._slots[name]] += by

    def set(self, name: str, value: int) -> None:
        """Set a counter, for what isn't a sum."""
        self._words[self._slots[name]] = value

    # The reader's side.

    def peek(self) -> memoryview | None:
        """Return the oldest record, in place; None if there is none.

        It stays valid until ``release``, which every peek that finds one needs.
        """
        if self._peeked is not None:
            raise ValueError("peek without release")
        if not self.used:
            return None
        self._fence()
        tail = self._words[_TAIL_WORD]
        if self._length(tail) == _SKIP:
            tail += self._capacity - tail % self._capacity
        nbytes = self._length(tail)
        at = tail % self._capacity + _LINE
        self._next = tail + _LINE + _aligned(nbytes)
        self._peeked = self._data[at : at + nbytes]
        return self._peeked

    def release(self) -> None:
        """Give the peeked record's room back to the writer."""
        if self._peeked is None:
            raise ValueError("release without peek")
        # A view that somebody still holds on the record stays mapped, but its bytes
        # may be overwritten from here on.
        with contextlib.suppress(BufferError):
            self._peeked.release()
        self._peeked = None
        self._fence()
        self._words[_TAIL_WORD] = self._next

    def counters(self) -> dict[str, int]:
        """Return the counters by name."""
        return {name: self._words[slot] for name, slot in self._slots.items()}

    # Either side.

    @property
    def used(self) -> int:
        """Return the bytes that wait for the reader."""
        return self._words[_HEAD_WORD] - self._words[_TAIL_WORD]

    @property
    def capacity(self) -> int:
        """Return the bytes of the ring."""
        return self._capacity

    def close(self) -> None:
        """Unmap and close; may be called twice.

        An array that still looks at a record keeps the mapping until it dies.
        """
        if self.fd < 0:
            return
        views = (self._reserved, self._peeked, self._data, self._words, self._bytes)
        for view in views:
            if view is not None:
                with contextlib.suppress(BufferError):
                    view.release()
        with contextlib.suppress(BufferError):
            self._memory.close()
        os.close(self.fd)
        self.fd = -1

    def _drop_reserved(self) -> None:
        if self._reserved is not None:
            with contextlib.suppress(BufferError):
                self._reserved.release()
            self._reserved = None

    def _put_length(self, position: int, nbytes: int) -> None:
        at = position % self._capacity
        self._data[at : at + 8] = nbytes.to_bytes(8, "little")

    def _length(self, position: int) -> int:
        at = position % self._capacity
        return int.from_bytes(self._data[at : at + 8], "little")

    def _fence(self) -> None:
        """Keep the processor from moving memory accesses across this call.

        x86 doesn't; ARM may show the new head before the record. Two turns of a lock
        are a full fence (a release, then an acquire of the same lock): 0.1 µs.
        """
        for _ in range(2):
            with self._lock:
                pass


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _LINE) * _LINE


def _anonymous_file(size: int) -> int:
    """Return a descriptor of zeros without a name, its memory taken now.

    A ring that doesn't fit must fail here: later it would be a SIGBUS. Asking for
    more than the machine has would rouse the OOM killer instead of an error.
    """
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > physical // 2:
        raise StoppedError(f"a ring of {size} bytes: more than half of the memory")
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("ptystream-ring", os.MFD_CLOEXEC)
    else:
        fd, path = tempfile.mkstemp(prefix="ptystream-ring-")
        os.unlink(path)
    try:
        os.ftruncate(fd, size)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)
    except OSError as e:
        os.close(fd)
        raise StoppedError(f"no memory for a ring of {size} bytes: {e}") from e
    return fd
