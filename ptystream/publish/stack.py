"""Snapshots of a run one upon the other, in one HDF5 file that is whole at any time.

The file is laid out in full when it is begun, and its blocks are reserved: a full disk
is known then. Each snapshot is written with plain I/O into the place it has, so that no
HDF5 handle is open while the run goes on: a reader is not locked out, a kill harms
nothing.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import h5py
import msgspec
import numpy as np

from ptystream import __version__
from ptystream.errors import ConfigError
from ptystream.publish import view
from ptystream.publish.atomic import safe_name
from ptystream.publish.metadata import original_uid
from ptystream.publish.sink import FrameCounts, RunEnd, RunInfo
from ptystream.recon.snapshot import Snapshot

MAX_BYTES = 1 << 30
"""A larger stack is refused."""

NUMBERS: Mapping[str, int] = {
    "time": 1,
    "step": 1,
    "exposures": 1,
    "held_out_error": 1,
    "pixel_size_m": 2,
    "origin_m": 2,
}
"""What is told of each snapshot, float64 ``[frames, n]``; points are (y, x)."""


class StackRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stack of ``frames`` snapshots, each made to fit ``size`` x ``size`` pixels.

    ``uid`` names the run, scan or Bluesky run whose snapshots are meant; none: any.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    frames: Annotated[int, msgspec.Meta(gt=0, le=100_000)]
    size: Annotated[int, msgspec.Meta(ge=16, le=4096)] = 256
    uid: Annotated[str, msgspec.Meta(max_length=128)] | None = None


@dataclass(frozen=True, slots=True)
class StackState:
    """The stack that is written, or was last; ``error`` if it could not be."""

    name: str = ""
    path: str = ""
    frames: int = 0
    written: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Open:
    """Where each dataset begins in the file, and a handle to write there."""

    handle: int
    size: int
    offsets: Mapping[str, int]


class StackSink:
    """Writes as many snapshots as were asked for into the stack that is open.

    ``open``, ``take`` and ``close`` belong on the sink's thread.
    """

    name = "stack"

    def __init__(
        self,
        folder: Path,
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder, self._changed, self._clock = folder, changed, clock
        self._state = StackState()
        self._open: _Open | None = None
        self._uid: str | None = None
        self._wanted = 0
        self._run: set[str] = set()

    @property
    def state(self) -> StackState:
        """What is written; from any thread."""
        return self._state

    def path(self, request: StackRequest) -> Path:
        """Return where a stack goes: inside the folder, whatever its name.

        Raises:
            ConfigError: it would be larger than ``MAX_BYTES``.
        """
        size = request.frames * request.size**2 * 8
        if size > MAX_BYTES:
            raise ConfigError(
                f"a stack of {request.frames} x {request.size} x {request.size} pixels "
                f"is {size} bytes, at most {MAX_BYTES}"
            )
        return self._folder.resolve() / f"{safe_name(request.name)}_stack.h5"

    def open(self, request: StackRequest) -> None:
        """Begin a stack, and leave the one before as it is; OSError if no room."""
        self._release()
        path = self.path(request)
        state = StackState(request.name, str(path), request.frames)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open = _laid_out(path, request)
        except OSError as error:
            path.unlink(missing_ok=True)
            self._tell(replace(state, error=f"{path}: {error.strerror or error}"))
            raise
        self._uid, self._wanted = request.uid, 0
        self._tell(state)

    def take(self, count: int) -> None:
        """Write so many further snapshots, as they come."""
        self._wanted = self._state.written + count

    def start(self, info: RunInfo) -> None:
        """Remember whose snapshots these are."""
        scan = info.provenance.get("scan")
        meta = scan if isinstance(scan, Mapping) else {}
        self._run = {info.run, info.scan, original_uid(info.scan, meta)}

    def update(self, snapshot: Snapshot, frames: FrameCounts) -> None:
        """Write a snapshot if it is wanted; the stack is closed when it is full."""
        stack, state = self._open, self._state
        if stack is None or state.written >= self._wanted:
            return
        if self._uid is not None and self._uid not in self._run:
            return
        for name, values in self._values(snapshot, stack.size).items():
            offset = stack.offsets[name] + state.written * values.nbytes
            _write(stack.handle, values.tobytes(), offset)
        self._tell(replace(state, written=state.written + 1))
        if state.written + 1 == state.frames:
            self._release()

    def stop(self, snapshot: Snapshot | None, frames: FrameCounts, end: RunEnd) -> None:
        """Write the final snapshot."""
        if snapshot is not None:
            self.update(snapshot, frames)

    def close(self) -> None:
        """Take no more snapshots."""
        self._release()

    def as_dict(self) -> dict[str, Any]:
        """Return the state, JSON-safe."""
        return asdict(self._state)

    def _values(self, snapshot: Snapshot, size: int) -> dict[str, np.ndarray]:
        """Return what each dataset gets of a snapshot."""
        plane, pixel_m, origin_m = fitted(snapshot, size)
        numbers = {
            "time": self._clock(),
            "step": snapshot.step,
            "exposures": snapshot.exposures,
            "held_out_error": snapshot.quality.held_out_error,
            "pixel_size_m": pixel_m,
            "origin_m": origin_m,
        }
        rows = {n: np.atleast_1d(np.array(v, np.float64)) for n, v in numbers.items()}
        return {"object": plane, **rows}

    def _tell(self, state: StackState) -> None:
        self._state = state
        self._changed()

    def _release(self) -> None:
        if self._open is not None:
            os.close(self._open.handle)
            self._open = None


def fitted(
    snapshot: Snapshot, size: int
) -> tuple[np.ndarray, tuple[float, float], tuple[float, float]]:
    """Return the object as complex64 ``[size, size]``, its pixel and origin (y, x).

    Slices are multiplied; averaged over whole pixels until it fits, then laid into
    the upper left corner. What lies beyond the object is NaN.
    """
    factor = view.shrink_factor(snapshot.object.shape, size)
    small = view.shrink(view.projection(snapshot.object), factor).astype(np.complex64)
    plane = np.full((size, size), np.nan, np.complex64)
    plane[: small.shape[0], : small.shape[1]] = small
    pixel = (snapshot.pixel_m[0] * factor, snapshot.pixel_m[1] * factor)
    shift = (factor - 1) / 2
    origin = (
        snapshot.origin_m[0] + shift * snapshot.pixel_m[0],
        snapshot.origin_m[1] + shift * snapshot.pixel_m[1],
    )
    return plane, pixel, origin


def _laid_out(path: Path, request: StackRequest) -> _Open:
    """Write a file of empty datasets, reserve its blocks; return where they begin."""
    n, size = request.frames, request.size
    shapes = {name: (n, width) for name, width in NUMBERS.items()}
    with h5py.File(path, "w") as file:
        file.attrs.update(creator="ptystream", version=__version__, name=request.name)
        made = {"object": _empty(file, "object", (n, size, size), np.complex64)}
        for name, shape in shapes.items():
            made[name] = _empty(file, name, shape, np.float64)
        offsets = {name: dataset.id.get_offset() for name, dataset in made.items()}
    handle = os.open(path, os.O_RDWR)
    try:
        os.posix_fallocate(handle, 0, os.fstat(handle).st_size)
    except BaseException:
        os.close(handle)
        raise
    return _Open(handle, size, offsets)


def _empty(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: type
) -> h5py.Dataset:
    """Make a contiguous dataset that has its place in the file at once."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple(shape)
    kind = h5py.h5t.py_create(np.dtype(dtype))
    return h5py.Dataset(h5py.h5d.create(file.id, name.encode(), kind, space, plan))


def _write(handle: int, content: bytes, offset: int) -> None:
    """Write it all; OSError if the disk won't."""
    rest = memoryview(content)
    while rest:
        done = os.pwrite(handle, rest, offset)
        rest, offset = rest[done:], offset + done
