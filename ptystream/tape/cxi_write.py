"""Writes CXI ptychography files that CxiScan and other programs read."""

import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from ptystream.errors import FileFormatError
from ptystream.tape import cxi
from ptystream.tape.counts import count_dtype
from ptystream.wire.messages import PLANCK_EV_M, Geometry

CXI_VERSION = 160
GROW_FRAMES = 64
"""The dataset grows by so many at once: per frame it would be ten times slower."""


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
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with h5py.File(part, "w") as file:
            file["cxi_version"], file["number_of_entries"] = CXI_VERSION, 1
            file["/entry_1/title"] = title
            _write_frames(file, frames, np.asarray(positions_m, np.float64))
            _write_geometry(file, geometry)
            if mask is not None:
                file[cxi.MASK] = (~np.asarray(mask, bool)).astype(np.uint32)
            if illumination is not None:
                file[cxi.ILLUMINATION] = np.asarray(illumination, np.complex64)
        part.replace(path)
    except OSError as e:
        raise FileFormatError(f"{path}: can't be written: {e}") from e
    finally:
        part.unlink(missing_ok=True)


def _write_frames(
    file: h5py.File, frames: Iterable[np.ndarray], positions_m: np.ndarray
) -> None:
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None or first.ndim != 2 or count_dtype(first.dtype) != first.dtype:
        found = "no frame" if first is None else f"{first.dtype} {first.shape}"
        raise FileFormatError(f"{found}: expected counts [h, w], unsigned integers")
    data = file.create_dataset(
        cxi.DATA[1],
        (0, *first.shape),
        first.dtype,
        maxshape=(None, *first.shape),
        chunks=(1, *first.shape),
        **hdf5plugin.Bitshuffle(nelems=0, cname="lz4"),
    )
    written = _append(data, chain([first], iterator))
    if positions_m.shape != (written, 2):
        raise FileFormatError(
            f"positions {positions_m.shape}: expected ({written}, 2), one per frame"
        )
    xyz = np.column_stack([positions_m[:, ::-1], np.zeros(written)])
    file[cxi.TRANSLATION[0]] = xyz
    file[cxi.DATA[0]] = h5py.SoftLink(cxi.DATA[1])
    file[cxi.TRANSLATION[1]] = h5py.SoftLink(cxi.TRANSLATION[0])


def _append(data: h5py.Dataset, frames: Iterable[np.ndarray]) -> int:
    written = 0
    for frame in frames:
        if (frame.shape, frame.dtype) != (data.shape[1:], data.dtype):
            found = f"frame {written}: {frame.dtype} {frame.shape}"
            raise FileFormatError(f"{found}: expected {data.dtype} {data.shape[1:]}")
        if written == len(data):
            data.resize(written + GROW_FRAMES, axis=0)
        data[written] = frame
        written += 1
    data.resize(written, axis=0)
    return written


def _write_geometry(file: h5py.File, geometry: Geometry) -> None:
    file[cxi.ENERGY] = PLANCK_EV_M / geometry.wavelength_m * cxi.JOULE_PER_EV
    file[f"{cxi.DETECTOR}/distance"] = geometry.distance_m
    file[f"{cxi.DETECTOR}/y_pixel_size"] = geometry.detector_pixel_m[0]
    file[f"{cxi.DETECTOR}/x_pixel_size"] = geometry.detector_pixel_m[1]
