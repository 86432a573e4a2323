"""The truth, for scoring only: it goes to a file and never to the wire."""

import io
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Complex64, Float64

from ptystream.errors import FileFormatError
from ptystream.publish.atomic import write_atomic


@dataclass(frozen=True, slots=True)
class Truth:
    """Object, probe and positions as simulated.

    ``object`` is ``[slices, H, W]``; ``origin_m`` is the (y, x) of the centre of its
    pixel [0, 0]. ``probe`` is ``[modes, K, K]`` in square roots of photons, in the
    plane of the first slice. An exposure at a position lights the window whose pixel
    [K/2, K/2] sits there. ``slice_m`` is from slice to slice; None for a thin object.
    """

    object: Complex64[np.ndarray, "s h w"]
    probe: Complex64[np.ndarray, "m k k"]
    positions_m: Float64[np.ndarray, "n 2"]
    pixel_m: tuple[float, float]
    origin_m: tuple[float, float]
    slice_m: float | None = None


def write_truth(path: Path, truth: Truth, settings_json: str = "") -> None:
    """Write the truth as HDF5, under its name only once it is whole."""
    image = io.BytesIO()  # HDF5 must never meet a full disk: see DECISIONS
    with h5py.File(image, "w") as file:
        file.attrs["settings"] = settings_json
        for name, array in (("object", truth.object), ("probe", truth.probe)):
            dataset = file.create_dataset(name, data=array.astype(np.complex64))
            dataset.attrs["pixel_size_m"] = truth.pixel_m
        file["object"].attrs["origin_m"] = truth.origin_m
        if truth.slice_m is not None:
            file["object"].attrs["slice_m"] = truth.slice_m
        file["positions_m"] = truth.positions_m
    write_atomic(path, image.getbuffer())


def read_truth(path: Path) -> Truth:
    """Read a truth file.

    Raises:
        FileFormatError: it is no HDF5 file, or lacks what it should hold.
    """
    try:
        with h5py.File(path) as file:
            shown = _dataset(file, "object")
            return Truth(
                object=shown[()],
                probe=_dataset(file, "probe")[()],
                positions_m=_dataset(file, "positions_m")[()],
                pixel_m=_pair(shown, "pixel_size_m"),
                origin_m=_pair(shown, "origin_m"),
                slice_m=_optional(shown, "slice_m"),
            )
    except (OSError, KeyError, ValueError) as e:
        raise FileFormatError(
            f"{path}: expected /object, /probe and /positions_m ({e})"
        ) from e


def _dataset(file: h5py.File, name: str) -> h5py.Dataset:
    item = file[name]
    if not isinstance(item, h5py.Dataset):
        raise ValueError(f"/{name} holds no array")
    return item


def _pair(dataset: h5py.Dataset, name: str) -> tuple[float, float]:
    y, x = np.asarray(dataset.attrs[name], np.float64).tolist()
    return y, x


def _optional(dataset: h5py.Dataset, name: str) -> float | None:
    value = dataset.attrs.get(name)
    return None if value is None else float(np.asarray(value, np.float64).item())
