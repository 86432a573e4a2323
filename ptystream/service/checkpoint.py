"""A scan's state on disk: one file for each run, whole or not there, and checked.

The file is a head with the SHA-256 sum of the rest; a tree of values in msgpack, of
which nothing could run; and the arrays' bytes, summed and written as they lie.
"""

import hashlib
import logging
import math
import struct
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import msgspec
import numpy as np

from ptystream.errors import FileFormatError
from ptystream.publish.atomic import safe_name, write_atomic
from ptystream.publish.sink import FrameCounts, RunEnd, RunInfo
from ptystream.recon.snapshot import Snapshot

log = logging.getLogger(__name__)

SUFFIX = ".checkpoint"
VERSION = 1
MAX_BYTES = 4 << 30
"""A larger file is neither written nor read."""
TRIES = 3
"""A file from which so many starts went on, and left none of their own, may be what
ended them: it is not gone on with again."""
_TRIED = ".tried"
_MAGIC = b"PTYSCKPT"
_HEAD = struct.Struct("<8sIQ32s")
"""Magic, version, bytes of the tree, sum of all that follows."""
_ARRAY = 1


class _Array(msgspec.Struct, array_like=True):
    """Where an array lies after the tree."""

    dtype: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    offset: Annotated[int, msgspec.Meta(ge=0)]


def encode(state: dict[str, Any]) -> list[bytes | memoryview]:
    """Return the parts of a state's file; ValueError if it is too large."""
    arrays: list[memoryview] = []
    offset = 0

    def packed(value: object) -> msgspec.msgpack.Ext:
        nonlocal offset
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{type(value).__name__} in a state")
        array = np.ascontiguousarray(value)
        place = _Array(value.dtype.str, value.shape, offset)
        arrays.append(array.reshape(-1).view(np.uint8).data)
        offset += array.nbytes
        return msgspec.msgpack.Ext(_ARRAY, msgspec.msgpack.encode(place))

    tree = msgspec.msgpack.encode(state, enc_hook=packed)
    size = _HEAD.size + len(tree) + offset
    if size > MAX_BYTES:
        raise ValueError(f"a checkpoint of {size} bytes, at most {MAX_BYTES}")
    digest = hashlib.sha256(tree)
    for array in arrays:
        digest.update(array)
    return [_HEAD.pack(_MAGIC, VERSION, len(tree), digest.digest()), tree, *arrays]


def decode(raw: bytes) -> dict[str, Any]:
    """Return the state in a file; its arrays are views, not to be written to.

    Raises:
        FileFormatError: foreign, of another version, cut short or damaged.
    """
    if len(raw) < _HEAD.size or raw[: len(_MAGIC)] != _MAGIC:
        raise FileFormatError("no checkpoint of ptystream")
    _, version, tree_bytes, digest = _HEAD.unpack_from(raw)
    if version != VERSION:
        raise FileFormatError(f"version {version}, expected {VERSION}")
    body = memoryview(raw)[_HEAD.size :]
    if hashlib.sha256(body).digest() != digest:
        raise FileFormatError("damaged: its checksum is another")
    arrays = body[tree_bytes:]

    def unpacked(code: int, data: memoryview) -> np.ndarray:
        if code != _ARRAY:
            raise ValueError(f"extension {code}")
        place = msgspec.msgpack.decode(data, type=_Array)
        dtype, count = np.dtype(place.dtype), math.prod(place.shape)
        if dtype.kind not in "biufc":
            raise ValueError(f"an array of {dtype}")
        if place.offset + count * dtype.itemsize > len(arrays):
            raise ValueError(f"{count} x {dtype} at {place.offset}: beyond the end")
        lying = np.frombuffer(arrays[place.offset :], dtype, count)
        return lying.reshape(place.shape)

    try:
        state = msgspec.msgpack.decode(body[:tree_bytes], ext_hook=unpacked)
    except (msgspec.DecodeError, RecursionError, TypeError, ValueError) as error:
        raise FileFormatError(f"damaged: {error}") from error
    if not isinstance(state, dict):
        raise FileFormatError("damaged: no state in it")
    return cast("dict[str, Any]", state)


def read(path: Path) -> dict[str, Any]:
    """Return the state in a file; FileFormatError says why there is none."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise FileFormatError(f"more than {MAX_BYTES} bytes")
        return decode(path.read_bytes())
    except (OSError, FileFormatError) as error:
        raise FileFormatError(f"{path}: {error}") from error


@dataclass(frozen=True, slots=True)
class CheckpointStats:
    """The last file that was written: when (monotonic; None: never), how, how large."""

    written_s: float | None = None
    took_s: float = float("nan")
    size_bytes: int = 0


class CheckpointSink:
    """Writes states in its sink's thread, and removes them when a result is kept.

    A state that still waits when the next comes is overtaken (``SinkThread.soon``).
    """

    name = "checkpoint"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writing = threading.Lock()
        self._forgotten = ""
        self.stats = CheckpointStats()

    def path(self, run: str) -> Path:
        """Return where a run's state is kept."""
        return self._folder / f"{safe_name(run)}{SUFFIX}"

    def tried(self, path: Path) -> Path:
        """Note, in its name, that a start goes on from a file; return where it lies.

        Raises:
            FileFormatError: ``TRIES`` starts did, and ended before they left another.
        """
        run, _, tries = path.stem.partition(_TRIED)
        count = int(tries or 0) + 1
        if count > TRIES:
            raise FileFormatError(
                f"{path}: {TRIES} starts went on from it and left no other"
            )
        with suppress(OSError):
            return path.rename(path.with_name(f"{run}{_TRIED}{count}{SUFFIX}"))
        return path  # it can't be renamed: whoever starts the service counts

    def found(self) -> Sequence[Path]:
        """Return the files that are there, the newest first."""
        files = [(p.stat().st_mtime, p) for p in self._folder.glob(f"*{SUFFIX}")]
        return [path for _, path in sorted(files, reverse=True)]

    def write(self, state: dict[str, Any]) -> None:
        """Write a state, unless its run is over; OSError if the disk is full."""
        began_s = time.monotonic()
        with self._writing:
            if state["run"] == self._forgotten:
                return
            parts = encode(state)
            write_atomic(self.path(state["run"]), *parts)
            self._forget_tried(state["run"])
        now_s = time.monotonic()
        self.stats = CheckpointStats(now_s, now_s - began_s, sum(map(len, parts)))

    def forget(self, info: RunInfo) -> None:
        """Remove a run's file, from any thread; one being written is waited for."""
        with self._writing:
            self._forgotten = info.run
            self.path(info.run).unlink(missing_ok=True)
            self._forget_tried(info.run)
            self.stats = CheckpointStats()

    def _forget_tried(self, run: str) -> None:
        for path in self._folder.glob(f"{safe_name(run)}{_TRIED}*{SUFFIX}"):
            path.unlink(missing_ok=True)

    def start(self, info: RunInfo) -> None:
        """Make the folder, so that one that can't be made is known early."""
        self._folder.mkdir(parents=True, exist_ok=True)

    def update(self, snapshot: Snapshot, frames: FrameCounts) -> None:
        """Do nothing: a picture is not enough to go on from."""

    def stop(self, snapshot: Snapshot | None, frames: FrameCounts, end: RunEnd) -> None:
        """Do nothing: the state is of use until the result is on disk."""

    def close(self) -> None:
        """Do nothing: no file is open."""
