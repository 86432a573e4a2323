"""CXI ptychography files: the patterns, where they were taken, and the optics.

Lengths in the file are metres, energy joules. ``translation`` is (x, y, z) of the
illuminated window; it becomes (y, x) here. Patterns have zero frequency in the centre.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import hdf5plugin  # noqa: F401  (registers the bitshuffle filter)
import numpy as np

from ptystream.errors import FileFormatError
from ptystream.tape.counts import count_dtype, to_counts
from ptystream.wire.messages import PLANCK_EV_M, Frame, Geometry, ScanStart

JOULE_PER_EV = 1.602176634e-19
INSTRUMENT = "/entry_1/instrument_1"
DETECTOR = f"{INSTRUMENT}/detector_1"
DATA = ("/entry_1/data_1/data", f"{DETECTOR}/data")
TRANSLATION = (
    "/entry_1/sample_1/geometry_1/translation",
    "/entry_1/data_1/translation",
)
ENERGY = f"{INSTRUMENT}/source_1/energy"
ILLUMINATION = f"{INSTRUMENT}/source_1/illumination"
MASK = f"{DETECTOR}/mask"
STILL_USABLE = 0x7800
"""Mask bits that say what was done to a pixel or seen in it, not that it is bad:
artifact corrected, signal above background, peak, background corrected."""
MAX_FRAME_PIXELS = 1 << 27
BLOCK_BYTES = 4 << 20
"""Read at once: 32 patterns of 256x256 uint16, so that the h5py call's 0.1 ms is
spread; more only where the file's own chunks are larger."""
MAX_BLOCK_BYTES = 1 << 30
MAX_MODES = 1024


class CxiScan:
    """One scan in a CXI file; frames are read as they are asked for.

    All the small things are read and checked on entry, and stay when it is closed.
    ``shape`` is (h, w) of a pattern, ``dtype`` that of its counts; ``positions_m`` is
    ``[n, 2]`` float64 (y, x); ``mask`` is ``[h, w]`` bool, true where a pixel is
    usable; ``illumination`` is complex64 ``[modes, K, K]``. FileFormatError names the
    path that is missing or wrong, and what was expected there.
    """

    positions_m: np.ndarray
    mask: np.ndarray | None
    illumination: np.ndarray | None
    geometry: Geometry
    shape: tuple[int, int]
    dtype: np.dtype

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: h5py.File | None = None

    def __enter__(self) -> Self:
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as e:
            raise FileFormatError(f"{self.path}: expected an HDF5 file: {e}") from e
        try:
            self._read_all()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return self._n

    def start(self, scan: str) -> ScanStart:
        """Return the detector's start message of this scan under this uid."""
        return ScanStart(
            scan=scan,
            stream="det",
            shape=self.shape,
            dtype=self.dtype.str,
            frames_expected=len(self),
            geometry=self.geometry,
            meta={"file": self.path.name},
        )

    def frames(self, scan: str = "") -> Iterator[Frame]:
        """Yield every pattern, by index; FileFormatError if one isn't counts."""
        rows = self._block_rows()
        for first in range(0, len(self), rows):
            for i, raw in enumerate(self._block(first, rows), first):
                where = f"{self.path}: {self._data.name}[{i}]"
                counts = to_counts(raw, self.dtype, self.mask, where)
                yield Frame(scan=scan, index=i, counts=counts)

    def _read_all(self) -> None:
        self._data = self._dataset(*DATA, expected="patterns [n, h, w]")
        self._check_data()
        self.mask = self._mask()
        self.positions_m = self._positions()
        self.illumination = self._illumination()
        self.geometry = self._geometry()

    def _dataset(self, *paths: str, expected: str) -> h5py.Dataset:
        found = self._optional(*paths)
        if found is None:
            raise self._wrong(" or ".join(paths), "missing", expected)
        return found

    def _optional(self, *paths: str) -> h5py.Dataset | None:
        for path in paths:
            try:
                node = self._file[path] if self._file else None
            except (KeyError, OSError, RuntimeError):  # absent, or a link to nowhere
                continue
            if isinstance(node, h5py.Dataset):
                return node
        return None

    def _wrong(self, path: str, found: object, expected: str) -> FileFormatError:
        return FileFormatError(f"{self.path}: {path}: {found}; expected {expected}")

    def _load(self, data: h5py.Dataset, rows: slice | None = None) -> np.ndarray:
        try:
            return np.asarray(data[rows] if rows else data[()])
        except (OSError, RuntimeError, ValueError) as e:
            name = data.name or "?"
            raise self._wrong(name, e, "data that can be read") from e

    def _check_data(self) -> None:
        data, name = self._data, self._data.name or DATA[0]
        if data.ndim != 3 or 0 in data.shape:
            raise self._wrong(name, f"shape {data.shape}", "patterns [n, h, w]")
        if math.prod(data.shape[1:]) > MAX_FRAME_PIXELS:
            limit = f"at most {MAX_FRAME_PIXELS} pixels"
            raise self._wrong(name, f"patterns {data.shape[1:]}", limit)
        dtype = count_dtype(data.dtype)
        if dtype is None:
            raise self._wrong(name, f"dtype {data.dtype}", "counts: integers or floats")
        self.dtype = dtype
        self._n, *hw = (int(length) for length in data.shape)
        self.shape = (hw[0], hw[1])

    def _mask(self) -> np.ndarray | None:
        data = self._optional(MASK)
        if data is None:
            return None
        if data.shape != self.shape or data.dtype.kind not in "buif":
            found = f"{data.dtype} {data.shape}"
            raise self._wrong(MASK, found, f"bits {self.shape}, 0 where usable")
        raw = self._load(data)
        bits = raw if raw.dtype.kind in "ui" else (raw != 0).astype(np.uint8)
        usable = (bits.astype(np.int64) & ~STILL_USABLE) == 0
        if not usable.any():
            raise self._wrong(MASK, "no usable pixel", "bits, 0 where usable")
        return usable

    def _positions(self) -> np.ndarray:
        data = self._dataset(*TRANSLATION, expected="(x, y, z) in metres, [n, 3]")
        name, n = data.name or TRANSLATION[0], len(self)
        if (
            data.ndim != 2
            or data.shape[1] not in (2, 3)
            or data.dtype.kind not in "fiu"
        ):
            raise self._wrong(name, f"{data.dtype} {data.shape}", f"numbers [{n}, 3]")
        if len(data) != n:
            where = self._data.name
            raise self._wrong(name, f"{len(data)} positions", f"{n}, as in {where}")
        xy = self._load(data).astype(np.float64)[:, :2]
        if not np.isfinite(xy).all():
            first = int(np.argmin(np.isfinite(xy).all(axis=1)))
            raise self._wrong(name, f"row {first} is {xy[first]}", "finite metres")
        return np.ascontiguousarray(xy[:, ::-1])

    def _illumination(self) -> np.ndarray | None:
        data = self._optional(ILLUMINATION)
        if data is None:
            return None
        shape = data.shape if data.ndim == 3 else (1, *data.shape)
        square = len(shape) == 3 and shape[1] == shape[2] and 0 not in shape
        small = math.prod(shape) <= MAX_FRAME_PIXELS and shape[0] <= MAX_MODES
        if not (square and small and data.dtype.kind == "c"):
            found = f"{data.dtype} {data.shape}"
            raise self._wrong(ILLUMINATION, found, "complex [K, K] or [modes, K, K]")
        probe = self._load(data).reshape(shape).astype(np.complex64)
        if not np.isfinite(probe).all():
            raise self._wrong(ILLUMINATION, "not finite", "finite amplitudes")
        return probe

    def _geometry(self) -> Geometry:
        energy_ev = self._scalar(ENERGY, "joules", most=1e-9) / JOULE_PER_EV
        pixel_m = (
            self._scalar(f"{DETECTOR}/y_pixel_size", "metres", most=1.0),
            self._scalar(f"{DETECTOR}/x_pixel_size", "metres", most=1.0),
        )
        names = ("wavelength_m", "distance_m", "detector_pixel_m")
        return Geometry(
            wavelength_m=PLANCK_EV_M / energy_ev,
            distance_m=self._scalar(f"{DETECTOR}/distance", "metres", most=1e6),
            detector_pixel_m=pixel_m,
            origins=dict.fromkeys(names, "file"),
        )

    def _scalar(self, path: str, unit: str, most: float) -> float:
        """Return one number; a wrong unit (energy in eV) is off by ten decades."""
        expected = f"one number of {unit}, > 0 and <= {most:g}"
        data = self._dataset(path, expected=expected)
        if data.size != 1 or data.dtype.kind not in "fiu":
            raise self._wrong(path, f"{data.dtype} {data.shape}", expected)
        value = float(self._load(data).reshape(()))
        if not 0 < value <= most:
            raise self._wrong(path, value, expected)
        return value

    def _block_rows(self) -> int:
        """Return how many patterns to read at once: whole chunks of the file."""
        per_frame = math.prod(self.shape) * self._data.dtype.itemsize
        chunk = self._data.chunks[0] if self._data.chunks else 1
        rows = max(1, BLOCK_BYTES // per_frame // chunk) * chunk
        return max(1, min(rows, MAX_BLOCK_BYTES // per_frame))

    def _block(self, first: int, rows: int) -> np.ndarray:
        return self._load(self._data, slice(first, first + rows))
