"""Writes CXI ptychography files, which are NeXus ``NXcxi_ptycho`` too.

A pattern is one bitshuffle-lz4 chunk: what came so compressed is stored as it came.
"""

import os
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import hdf5plugin
import numpy as np

from ptystream.errors import FileFormatError
from ptystream.tape import cxi
from ptystream.tape.counts import count_dtype
from ptystream.wire import codecs
from ptystream.wire.codecs import Buffer
from ptystream.wire.messages import PLANCK_EV_M, Geometry

CXI_VERSION = 160
GROW_FRAMES = 64
"""The datasets grow by so many at once: per frame it would be ten times slower."""
SEQUENCE = f"{cxi.DETECTOR}/sequence_number"
"""Trigger index of each pattern."""
_CLASSES = {
    "/entry_1": "NXentry",
    "/entry_1/data_1": "NXdata",
    "/entry_1/instrument_1": "NXinstrument",
    "/entry_1/instrument_1/source_1": "NXsource",
    "/entry_1/instrument_1/beam_1": "NXbeam",
    cxi.DETECTOR: "NXdetector",
    "/entry_1/sample_1": "NXsample",
    "/entry_1/sample_1/geometry_1": "NXcollection",
}


class CxiWriter:
    """Writes a scan exposure by exposure; one thread.

    ``shape`` is (h, w) of a pattern, ``dtype`` unsigned counts; ``mask`` is true where
    usable. The file appears under its name when it is whole; with ``follow`` it is
    there from the start, and can be read in SWMR mode as it grows: after ``flush``, or
    after every 64 exposures. FileFormatError if it can't be written.
    """

    def __init__(
        self,
        path: str | Path,
        shape: tuple[int, int],
        dtype: np.dtype,
        geometry: Geometry,
        *,
        mask: np.ndarray | None = None,
        illumination: np.ndarray | None = None,
        title: str = "",
        follow: bool = False,
    ) -> None:
        if len(shape) != 2 or count_dtype(dtype) != dtype:
            found = f"{dtype} {shape}"
            raise FileFormatError(f"{found}: expected counts [h, w], unsigned integers")
        self.path = Path(path)
        self.written = 0
        self._shape, self._dtype, self._geometry = shape, dtype, geometry
        self._mask, self._illumination = mask, illumination
        self._title, self._follow = title, follow
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        self._part = self.path if follow else part
        self._rows: list[tuple[int, Buffer, tuple[float, float]]] = []

    def __enter__(self) -> Self:
        try:
            with ExitStack() as stack:
                libver = "latest" if self._follow else None
                mode = "x" if self._follow else "w"
                self._file = h5py.File(self._part, mode, libver=libver)
                stack.callback(self._file.close)
                self._lay_out()
                if self._follow:
                    self._file.swmr_mode = True
                self._open = stack.pop_all()
        except OSError as e:
            raise self._failed(e) from e
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.flush()
            self._open.close()
            if error is None:
                self._part.replace(self.path)
        except (OSError, RuntimeError) as e:
            raise self._failed(e) from e
        finally:
            if not self._follow:
                self._part.unlink(missing_ok=True)

    def append(
        self, index: int, counts: np.ndarray, position_m: tuple[float, float]
    ) -> None:
        """Add a pattern that was taken at (y, x); FileFormatError if it doesn't fit."""
        if (counts.shape, counts.dtype) != (self._shape, self._dtype):
            found = f"frame {index}: {counts.dtype} {counts.shape}"
            raise FileFormatError(f"{found}: expected {self._dtype} {self._shape}")
        self.append_chunk(index, codecs.encode(counts, "bslz4"), position_m)

    def append_chunk(
        self, index: int, chunk: Buffer, position_m: tuple[float, float]
    ) -> None:
        """Add a pattern that is a bslz4 payload of this shape and dtype, unchecked."""
        self._rows.append((index, chunk, position_m))
        if len(self._rows) >= GROW_FRAMES:
            self.flush()

    def flush(self) -> None:
        """Write what waits, so that readers see it."""
        first, rows = self.written, self._rows
        if not rows:
            return
        xyz = np.array([(x, y, 0.0) for _, _, (y, x) in rows])
        try:
            for name, values in (
                (cxi.TRANSLATION[0], xyz),
                (SEQUENCE, np.array([index for index, _, _ in rows])),
            ):
                data = self._dataset(name)
                data.resize(first + len(rows), axis=0)
                data[first:] = values
            patterns = self._dataset(cxi.DATA[1])
            patterns.resize(first + len(rows), axis=0)
            for row, (_, chunk, _) in enumerate(rows, first):
                patterns.id.write_direct_chunk((row, 0, 0), chunk)
            self._file.flush()
        except (OSError, RuntimeError) as e:
            raise self._failed(e) from e
        self.written += len(rows)
        self._rows = []

    def _failed(self, error: Exception) -> FileFormatError:
        return FileFormatError(f"{self.path}: can't be written: {error}")

    def _dataset(self, name: str) -> Any:
        return self._file[name]

    def _lay_out(self) -> None:
        """Make every group and dataset: a file read in SWMR mode gets no more."""
        file = self._file
        file["cxi_version"], file["number_of_entries"] = CXI_VERSION, 1
        file.attrs["default"] = "entry_1"
        for name, kind in _CLASSES.items():
            file.require_group(name).attrs["NX_class"] = kind
        file["/entry_1/title"], file["/entry_1/definition"] = self._title, "NXptycho"
        file.create_dataset(
            cxi.DATA[1],
            (0, *self._shape),
            self._dtype,
            maxshape=(None, *self._shape),
            chunks=(1, *self._shape),
            **hdf5plugin.Bitshuffle(nelems=0, cname="lz4"),
        )
        places = file.create_dataset(
            cxi.TRANSLATION[0], (0, 3), "<f8", maxshape=(None, 3), chunks=(1024, 3)
        )
        places.attrs["units"] = "m"
        file.create_dataset(SEQUENCE, (0,), "<i8", maxshape=(None,), chunks=(1024,))
        file[cxi.DATA[0]] = h5py.SoftLink(cxi.DATA[1])
        file[cxi.TRANSLATION[1]] = h5py.SoftLink(cxi.TRANSLATION[0])
        file["/entry_1/data_1"].attrs["signal"] = "data"
        self._write_geometry()
        if self._mask is not None:
            file[cxi.MASK] = (~np.asarray(self._mask, bool)).astype(np.uint32)
        if self._illumination is not None:
            file[cxi.ILLUMINATION] = np.asarray(self._illumination, np.complex64)

    def _write_geometry(self) -> None:
        geometry = self._geometry
        energy_j = PLANCK_EV_M / geometry.wavelength_m * cxi.JOULE_PER_EV
        for name, value, unit in (
            (cxi.ENERGY, energy_j, "J"),
            ("/entry_1/instrument_1/beam_1/incident_energy", energy_j, "J"),
            (f"{cxi.DETECTOR}/distance", geometry.distance_m, "m"),
            (f"{cxi.DETECTOR}/y_pixel_size", geometry.detector_pixel_m[0], "m"),
            (f"{cxi.DETECTOR}/x_pixel_size", geometry.detector_pixel_m[1], "m"),
        ):
            self._file[name] = value
            self._file[name].attrs["units"] = unit


def write_cxi(
    path: str | Path,
    frames: Iterable[np.ndarray],
    positions_m: np.ndarray,
    geometry: Geometry,
    *,
    mask: np.ndarray | None = None,
    illumination: np.ndarray | None = None,
    title: str = "",
) -> None:
    """Write a scan; the file appears under its name when it is whole.

    ``frames`` are counts ``[h, w]``, one by one (or an array ``[n, h, w]``), each
    stored as a bitshuffle-lz4 chunk; ``positions_m`` is ``[n, 2]`` (y, x); ``mask``
    is true where usable.

    Raises:
        FileFormatError: frames and positions differ in number, or frames in shape.
    """
    places = np.asarray(positions_m, np.float64)
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None or first.ndim != 2:
        found = "no frame" if first is None else f"{first.dtype} {first.shape}"
        raise FileFormatError(f"{found}: expected counts [h, w], unsigned integers")
    extras = {"mask": mask, "illumination": illumination, "title": title}
    with CxiWriter(path, first.shape, first.dtype, geometry, **extras) as writer:
        count = 0
        for count, frame in enumerate(chain([first], iterator), 1):
            if count <= len(places):
                y, x = places[count - 1]
                writer.append(count - 1, frame, (float(y), float(x)))
        if places.shape != (count, 2):
            raise FileFormatError(
                f"positions {places.shape}: expected ({count}, 2), one per frame"
            )
