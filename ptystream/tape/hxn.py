"""HXN-style HDF5 files: amplitudes, where they were taken, and the optics, all flat.

``diffamp`` ``[n, h, w]`` holds amplitudes, the roots of counts; ``points`` ``[2, N]``
metres, x in row 0 and y in row 1; ``lambda_nm``, ``z_m`` and ``ccd_pixel_um`` are
numbers, ``angle`` (degrees) an optional one.

The files were made for solvers that keep the zero frequency in the corner, by shifting
each pattern; some are left with it in the centre. An attribute ``zero_frequency``
(``corner`` or ``centre``) of ``diffamp`` says which; without it, the brighter of the
two quarters of the window around corner and centre does, in the mean of up to 16
patterns, if it has at least twice the counts of the other.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np

from ptystream.errors import FileFormatError
from ptystream.tape.cxi import MAX_FRAME_PIXELS
from ptystream.wire.messages import Frame, Geometry, ScanStart

AMPLITUDES, POINTS = "diffamp", "points"
ZERO_FREQUENCY = "zero_frequency"
LOOKED_AT = 16
"""Patterns whose mean tells where the zero frequency is."""
CLEARLY = 2.0
"""The brighter quarter has so many times the other's counts."""
MAX_COUNTS = np.iinfo(np.uint32).max


class HxnScan:
    """One scan in such a file, with the interface of ``CxiScan``.

    ``positions_m`` is ``[n, 2]`` float64 (y, x); there is no mask and no probe. Counts
    are the rounded squares of the amplitudes, uint32, zero frequency in the centre.
    FileFormatError names the path that is missing or wrong, and what was expected.
    """

    positions_m: np.ndarray
    mask: np.ndarray | None = None
    illumination: np.ndarray | None = None
    geometry: Geometry
    shape: tuple[int, int]
    dtype = np.dtype("<u4")

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
            meta={"file": self.path.name, **self._angle},
        )

    def frames(self, scan: str = "") -> Iterator[Frame]:
        """Yield every pattern, by index; FileFormatError if one isn't amplitudes."""
        for index in range(len(self)):
            counts = self._counts(index)
            if self._corner:
                counts = np.fft.fftshift(counts)
            yield Frame(scan=scan, index=index, counts=counts)

    def _read_all(self) -> None:
        self._data = self._dataset(AMPLITUDES, "amplitudes [n, h, w]")
        if self._data.ndim != 3 or 0 in self._data.shape:
            found = f"shape {self._data.shape}"
            raise self._wrong(AMPLITUDES, found, "amplitudes [n, h, w]")
        if self._data.dtype.kind not in "fiu":
            raise self._wrong(AMPLITUDES, self._data.dtype, "real numbers")
        if math.prod(self._data.shape[1:]) > MAX_FRAME_PIXELS:
            limit = f"at most {MAX_FRAME_PIXELS} pixels"
            raise self._wrong(AMPLITUDES, f"patterns {self._data.shape[1:]}", limit)
        self._n, height, width = (int(length) for length in self._data.shape)
        self.shape = (height, width)
        self.positions_m = self._positions()
        self.geometry = self._geometry()
        self._angle = self._angle_deg()
        self._corner = self._in_corner()

    def _wrong(self, path: str, found: object, expected: str) -> FileFormatError:
        return FileFormatError(f"{self.path}: /{path}: {found}; expected {expected}")

    def _dataset(self, path: str, expected: str) -> h5py.Dataset:
        node = self._file.get(path) if self._file else None
        if not isinstance(node, h5py.Dataset):
            raise self._wrong(path, "missing", expected)
        return node

    def _load(self, data: h5py.Dataset, where: object = ()) -> np.ndarray:
        try:
            return np.asarray(data[where])
        except (OSError, RuntimeError, ValueError) as e:
            name = (data.name or "/?")[1:]
            raise self._wrong(name, e, "data that can be read") from e

    def _positions(self) -> np.ndarray:
        expected = f"metres [2, {self._n}], x then y"
        data = self._dataset(POINTS, expected)
        if data.shape != (2, self._n) or data.dtype.kind not in "fiu":
            raise self._wrong(POINTS, f"{data.dtype} {data.shape}", expected)
        xy = self._load(data).astype(np.float64)
        if not np.isfinite(xy).all():
            raise self._wrong(POINTS, "not finite", expected)
        if np.abs(xy).max() > 1:
            raise self._wrong(POINTS, f"{np.abs(xy).max():g}", "metres, at most 1")
        return np.ascontiguousarray(xy[::-1].T)

    def _geometry(self) -> Geometry:
        pixel_m = self._scalar("ccd_pixel_um", "micrometres", most=1e4) * 1e-6
        names = ("wavelength_m", "distance_m", "detector_pixel_m")
        return Geometry(
            wavelength_m=self._scalar("lambda_nm", "nanometres", most=1e3) * 1e-9,
            distance_m=self._scalar("z_m", "metres", most=1e3),
            detector_pixel_m=(pixel_m, pixel_m),
            origins=dict.fromkeys(names, "file"),
        )

    def _scalar(self, path: str, unit: str, most: float) -> float:
        expected = f"one number of {unit}, > 0 and <= {most:g}"
        data = self._dataset(path, expected)
        if data.size != 1 or data.dtype.kind not in "fiu":
            raise self._wrong(path, f"{data.dtype} {data.shape}", expected)
        value = float(self._load(data).reshape(()))
        if not 0 < value <= most:
            raise self._wrong(path, value, expected)
        return value

    def _angle_deg(self) -> dict[str, float]:
        """Return the rotation for the metadata, if the file has one."""
        if self._file is None or "angle" not in self._file:
            return {}
        data = self._dataset("angle", "one number of degrees")
        if data.size != 1 or data.dtype.kind not in "fiu":
            raise self._wrong("angle", data.dtype, "one number of degrees")
        value = float(self._load(data).reshape(()))
        return {"angle_deg": value} if math.isfinite(value) else {}

    def _in_corner(self) -> bool:
        """Tell where the zero frequency is; FileFormatError if it can't be told."""
        said = self._data.attrs.get(ZERO_FREQUENCY)
        said = said.decode() if isinstance(said, bytes) else said
        name = f"{AMPLITUDES}@{ZERO_FREQUENCY}"
        if said is not None:
            if said not in ("corner", "centre"):
                raise self._wrong(name, repr(said), "'corner' or 'centre'")
            return bool(said == "corner")
        picked = np.linspace(0, self._n - 1, min(self._n, LOOKED_AT)).astype(int)
        mean = np.stack([self._counts(int(i)) for i in picked]).mean(axis=0)
        centre, corner = _quarter(mean), _quarter(np.fft.fftshift(mean))
        if max(centre, corner) < CLEARLY * min(centre, corner) or not mean.any():
            found = f"missing, and centre and corner hold {centre:.3g} and {corner:.3g}"
            raise self._wrong(name, found, "'corner' or 'centre'")
        return corner > centre

    def _counts(self, index: int) -> np.ndarray:
        """Return the rounded squares of one pattern, uint32, as they lie."""
        raw = self._load(self._data, index).astype(np.float64)
        ok = np.isfinite(raw) & (raw >= 0) & (raw * raw <= MAX_COUNTS)
        if not ok.all():
            y, x = (int(v) for v in np.argwhere(~ok)[0])
            found = f"pixel ({y}, {x}) is {raw[y, x]}"
            raise self._wrong(f"{AMPLITUDES}[{index}]", found, "0 to 65535")
        return np.rint(raw * raw).astype(self.dtype)


def _quarter(pattern: np.ndarray) -> float:
    """Return what the middle quarter of the window holds."""
    h, w = pattern.shape
    return float(pattern[h // 4 : h - h // 4, w // 4 : w - w // 4].sum())
