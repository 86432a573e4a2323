from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ptystream.errors import FileFormatError
from ptystream.tape.cxi import CxiScan
from ptystream.tape.cxi_write import write_cxi
from ptystream.tape.files import is_tape, scan_file
from ptystream.tape.hxn import HxnScan
from ptystream.wire.messages import Geometry

N, SIDE = 30, 16
RNG = np.random.default_rng(3)
_Y, _X = np.mgrid[:SIDE, :SIDE] - SIDE / 2
CENTRED = RNG.poisson(40 * np.exp(-(_Y**2 + _X**2) / 12), (N, SIDE, SIDE))
POINTS = RNG.normal(0, 1e-6, (2, N))


def write(path: Path, counts: np.ndarray, **changes: Any) -> Path:
    values: dict[str, Any] = {
        "diffamp": np.sqrt(counts).astype(np.float32),
        "points": POINTS,
        "lambda_nm": 0.1,
        "z_m": 2.05,
        "ccd_pixel_um": 55.0,
        "angle": -12.5,
        **changes,
    }
    with h5py.File(path, "w") as file:
        for name, value in values.items():
            if value is not None:
                file[name] = value
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    shifted = np.fft.ifftshift(CENTRED, axes=(1, 2))
    return write(tmp_path / "scan_1.h5", shifted)


def counts(path: Path) -> np.ndarray:
    with HxnScan(path) as scan:
        return np.stack([frame.counts for frame in scan.frames("uid")])


def test_counts_positions_and_optics_are_read(path: Path) -> None:
    with HxnScan(path) as scan:
        frames = list(scan.frames("uid"))
        start = scan.start("uid")
        assert scan.positions_m.tolist() == [[y, x] for x, y in POINTS.T]
    assert [f.index for f in frames] == list(range(N))
    assert {(f.scan, f.counts.dtype.str) for f in frames} == {("uid", "<u4")}
    assert (np.stack([f.counts for f in frames]) == CENTRED).all()
    assert (start.shape, start.frames_expected) == ((SIDE, SIDE), N)
    assert start.geometry is not None
    assert start.geometry.wavelength_m == pytest.approx(1e-10)
    assert start.geometry.distance_m == 2.05
    assert start.geometry.detector_pixel_m == pytest.approx((55e-6, 55e-6))
    assert start.geometry.origins["wavelength_m"] == "file"
    assert start.meta["angle_deg"] == -12.5


def test_the_zero_frequency_is_found_wherever_it_is(tmp_path: Path, path: Path) -> None:
    centred = write(tmp_path / "centred.h5", CENTRED)
    assert (counts(centred) == CENTRED).all()
    assert (counts(path) == CENTRED).all()


@pytest.mark.parametrize("said", ["corner", b"centre"])
def test_what_the_file_says_of_the_zero_frequency_holds(path: Path, said: Any) -> None:
    with h5py.File(path, "r+") as file:
        file["diffamp"].attrs["zero_frequency"] = said
    moved = CENTRED if said == "corner" else np.fft.ifftshift(CENTRED, axes=(1, 2))
    assert (counts(path) == moved).all()


@pytest.mark.parametrize("flat", [np.full((N, 8, 8), 9), np.zeros((N, 8, 8))])
def test_where_it_can_t_be_told_it_is_not_guessed(tmp_path: Path, flat) -> None:
    path = write(tmp_path / "flat.h5", flat)
    with pytest.raises(FileFormatError, match=r"zero_frequency.*'corner' or 'centre'"):
        HxnScan(path).__enter__()


def test_empty_first_frames_don_t_matter(tmp_path: Path) -> None:
    late = CENTRED.copy()
    late[: N // 2] = 0
    assert (counts(write(tmp_path / "late.h5", late)) == late).all()


BAD = np.sqrt(CENTRED).astype(float)
BAD[7, 2, 3] = -1
WRONG: dict[str, tuple[str, Any, str]] = {
    "no amplitudes": ("diffamp", None, "/diffamp: missing"),
    "flat amplitudes": ("diffamp", np.zeros((4, 4)), r"/diffamp: shape.*\[n, h, w\]"),
    "complex": ("diffamp", np.zeros((N, 4, 4), "c8"), "/diffamp: complex64.*real"),
    "no points": ("points", None, r"/points: missing.*\[2, 30\], x then y"),
    "points the other way": ("points", POINTS.T, r"/points: float64 \(30, 2\)"),
    "points in µm": ("points", POINTS * 1e9, "/points: .*metres, at most 1"),
    "points nowhere": ("points", POINTS * np.nan, "/points: not finite"),
    "no wavelength": ("lambda_nm", None, "/lambda_nm: missing.*nanometres"),
    "wavelength of none": ("lambda_nm", 0.0, "/lambda_nm: 0.0"),
    "distance of text": ("z_m", "far", "/z_m: .*metres"),
    "no pixel": ("ccd_pixel_um", None, "/ccd_pixel_um: missing.*micrometres"),
    "angle of text": ("angle", "steep", "/angle: .*degrees"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(tmp_path: Path, name: str) -> None:
    where, value, expected = WRONG[name]
    path = write(tmp_path / "w.h5", CENTRED, **{where: value})
    with pytest.raises(FileFormatError, match=f"w.h5: {expected}"):
        HxnScan(path).__enter__()


def test_a_pixel_that_is_no_amplitude_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.h5", CENTRED, diffamp=BAD)
    with h5py.File(path, "r+") as file:
        file["diffamp"].attrs["zero_frequency"] = "centre"
    with HxnScan(path) as scan, pytest.raises(FileFormatError) as e:
        list(scan.frames())
    assert "/diffamp[7]: pixel (2, 3) is -1.0; expected 0 to 65535" in str(e.value)


def test_files_are_told_from_each_other(path: Path, tmp_path: Path) -> None:
    cxi = tmp_path / "a.cxi"
    write_cxi(cxi, CENTRED.astype("<u2"), POINTS.T, Geometry(1e-10, 1.0, (1e-4, 1e-4)))
    tape = tmp_path / "a.tape"
    tape.write_bytes(b"PTYSTAPE")
    kinds: list[tuple[Path, Callable[..., Any]]] = [(path, HxnScan), (cxi, CxiScan)]
    for file, kind in kinds:
        assert not is_tape(file)
        assert isinstance(scan_file(file), kind)
    assert is_tape(tape)
    with pytest.raises(FileFormatError, match="HDF5"):
        scan_file(tape)
