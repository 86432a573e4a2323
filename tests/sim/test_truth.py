from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptystream.errors import FileFormatError
from ptystream.sim.truth import Truth, read_truth, write_truth


def truth() -> Truth:
    rng = np.random.default_rng(0)
    obj = rng.normal(size=(1, 5, 6)) + 1j * rng.normal(size=(1, 5, 6))
    return Truth(
        object=obj.astype(np.complex64),
        probe=obj[:, :4, :4].astype(np.complex64).repeat(2, axis=0),
        positions_m=rng.normal(size=(7, 2)),
        pixel_m=(1e-8, 2e-8),
        origin_m=(3e-6, -4e-6),
    )


def test_comes_back_as_written(tmp_path: Path):
    path = tmp_path / "truth.h5"
    write_truth(path, truth(), '{"seed": 1}')
    back, wanted = read_truth(path), truth()
    for name in ("object", "probe", "positions_m"):
        assert np.array_equal(getattr(back, name), getattr(wanted, name))
        assert getattr(back, name).dtype == getattr(wanted, name).dtype
    assert (back.pixel_m, back.origin_m) == (wanted.pixel_m, wanted.origin_m)
    assert [p.name for p in tmp_path.iterdir()] == ["truth.h5"]


def test_slices_and_their_distance_come_back(tmp_path: Path):
    path, thin = tmp_path / "truth.h5", truth()
    thick = replace(thin, object=thin.object.repeat(3, axis=0), slice_m=1e-10)
    for wanted in (thin, thick):
        write_truth(path, wanted)
        back = read_truth(path)
        assert back.slice_m == wanted.slice_m
        assert back.object.shape == wanted.object.shape


def test_is_laid_out_as_documented(tmp_path: Path):
    write_truth(tmp_path / "t.h5", truth(), '{"seed": 1}')
    with h5py.File(tmp_path / "t.h5") as file:
        shown = file["object"].attrs
        assert file["object"].shape == (1, 5, 6)
        assert file["object"].dtype == file["probe"].dtype == np.complex64
        assert shown["pixel_size_m"].tolist() == [1e-8, 2e-8]
        assert shown["origin_m"].tolist() == [3e-6, -4e-6]
        assert file.attrs["settings"] == '{"seed": 1}'


@pytest.mark.parametrize("kind", ["absent", "text", "empty", "group"])
def test_says_what_is_wrong(tmp_path: Path, kind: str):
    path = tmp_path / "t.h5"
    if kind == "text":
        path.write_text("not HDF5")
    elif kind != "absent":
        with h5py.File(path, "w") as file:
            file.create_group("object" if kind == "group" else "other")
    with pytest.raises(FileFormatError, match=r"t\.h5: expected /object"):
        read_truth(path)
