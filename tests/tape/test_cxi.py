from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ptystream.errors import FileFormatError
from ptystream.tape import cxi as paths
from ptystream.tape.cxi import CxiScan
from ptystream.tape.cxi_write import write_cxi
from ptystream.wire.messages import Geometry

RNG = np.random.default_rng(0)
GEOMETRY = Geometry(1.4e-10, 1.9, (55e-6, 75e-6))
FRAMES = RNG.poisson(3, (7, 8, 6)).astype(np.uint16)
POSITIONS = RNG.normal(0, 1e-6, (7, 2))
MASK = RNG.random((8, 6)) > 0.2
PROBE = (RNG.normal(size=(2, 8, 8)) + 1j * RNG.normal(size=(2, 8, 8))).astype("c8")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "scan.cxi"
    write_cxi(path, FRAMES, POSITIONS, GEOMETRY, mask=MASK, illumination=PROBE)
    return path


def edit(path: Path, change: Callable[[h5py.File], Any]) -> Path:
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def put(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file[name] = value

    return change


def test_what_was_written_is_read(path: Path) -> None:
    with CxiScan(path) as scan:
        frames = list(scan.frames("uid"))
        assert len(scan) == 7
        assert scan.positions_m.tolist() == POSITIONS.tolist()
        assert scan.mask is not None
        assert scan.illumination is not None
        assert (scan.mask == MASK).all()
        assert (scan.illumination == PROBE).all()
    assert [f.index for f in frames] == list(range(7))
    assert {(f.scan, f.counts.dtype.str) for f in frames} == {("uid", "<u2")}
    assert (np.stack([f.counts for f in frames]) == FRAMES).all()


def test_the_start_says_what_the_file_says(path: Path) -> None:
    with CxiScan(path) as scan:
        pass
    start = scan.start("uid")
    assert (start.scan, start.stream, start.again) == ("uid", "det", False)
    assert (start.shape, start.dtype, start.frames_expected) == ((8, 6), "<u2", 7)
    assert start.geometry is not None
    assert start.geometry.wavelength_m == pytest.approx(1.4e-10, rel=1e-12)
    assert start.geometry.distance_m == 1.9
    assert start.geometry.detector_pixel_m == (55e-6, 75e-6)
    assert set(start.geometry.origins.values()) == {"file"}


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.uint32]),
        st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)),
    )
)
def test_any_counts_come_back(
    tmp_path_factory: pytest.TempPathFactory, frames: np.ndarray
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.cxi"
    write_cxi(path, iter(frames), np.zeros((len(frames), 2)), GEOMETRY)
    with CxiScan(path) as scan:
        found = np.stack([f.counts for f in scan.frames()])
        assert scan.mask is None
        assert scan.illumination is None
    assert found.dtype == frames.dtype
    assert (found == frames).all()


def test_frames_are_stored_one_by_one_and_compressed(path: Path) -> None:
    with h5py.File(path) as file:
        data = file[paths.DATA[1]]
        assert isinstance(data, h5py.Dataset)
        assert data.chunks == (1, 8, 6)
        assert data.id.get_create_plist().get_filter(0)[0] == 32008
        link = file.get(paths.DATA[0], getlink=True)
        assert isinstance(link, h5py.SoftLink)


def test_blocks_of_any_chunking_give_every_frame_once(tmp_path: Path) -> None:
    path = tmp_path / "chunks.cxi"
    frames = RNG.integers(0, 9, (50, 256, 256)).astype(np.uint16)
    write_cxi(path, frames, np.zeros((50, 2)), GEOMETRY)

    def rechunk(file: h5py.File) -> None:
        del file[paths.DATA[1]]
        file.create_dataset(paths.DATA[1], data=frames, chunks=(7, 64, 256))

    with CxiScan(edit(path, rechunk)) as scan:
        assert scan._block_rows() == 28
        for want, frame in zip(frames, scan.frames(), strict=True):
            assert (frame.counts == want).all()


def test_counts_of_other_kinds_are_converted(path: Path) -> None:
    signed = FRAMES.astype(np.int32)
    signed[:, ~MASK] = -1  # as detectors mark their gaps
    with CxiScan(edit(path, put(paths.DATA[1], signed))) as scan:
        assert scan.start("u").dtype == "<u4"
        found = np.stack([f.counts for f in scan.frames()])
    assert (found[:, MASK] == FRAMES[:, MASK]).all()
    assert (found[:, ~MASK] == 0).all()


def test_a_count_that_is_none_is_named_when_it_is_read(path: Path) -> None:
    halves = FRAMES.astype(np.float32)
    halves[5, MASK] += 0.5
    with CxiScan(edit(path, put(paths.DATA[1], halves))) as scan:
        frames = scan.frames()
        assert [next(frames).index for _ in range(5)] == [0, 1, 2, 3, 4]
        with pytest.raises(FileFormatError, match=r"data\[5\]: pixel"):
            next(frames)


def test_aliases_are_found(path: Path) -> None:
    def move(file: h5py.File) -> None:
        del file[paths.DATA[0]]
        del file[paths.TRANSLATION[1]]
        file.move(paths.TRANSLATION[0], paths.TRANSLATION[1])

    with CxiScan(edit(path, move)) as scan:
        assert len(list(scan.frames())) == 7
        assert scan.positions_m.tolist() == POSITIONS.tolist()


def test_a_probe_without_modes_has_one(path: Path) -> None:
    with CxiScan(edit(path, put(paths.ILLUMINATION, PROBE[0].astype("c16")))) as scan:
        assert scan.illumination is not None
        assert scan.illumination.dtype == np.complex64
        assert (scan.illumination == PROBE[:1]).all()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.float32])
def test_masks_of_any_dtype(path: Path, dtype: type) -> None:
    with CxiScan(edit(path, put(paths.MASK, (~MASK).astype(dtype)))) as scan:
        assert scan.mask is not None
        assert (scan.mask == MASK).all()


def test_bits_that_only_inform_leave_a_pixel_usable(path: Path) -> None:
    bits = np.zeros((8, 6), np.uint32)
    bits[0] = 0x800, 0x1000, 0x2000, 0x4000, 0x2, 0x801
    with CxiScan(edit(path, put(paths.MASK, bits))) as scan:
        assert scan.mask is not None
        assert scan.mask[0].tolist() == [True] * 4 + [False] * 2


DISTANCE = f"{paths.DETECTOR}/distance"
WRONG: dict[str, tuple[str, Any, str]] = {
    "too few positions": (paths.TRANSLATION[0], np.zeros((6, 3)), "6 positions.*7"),
    "positions by column": (paths.TRANSLATION[0], np.zeros((3, 7)), r"\[7, 3\]"),
    "positions of text": (paths.TRANSLATION[0], np.full((7, 3), b"x"), "numbers"),
    "a position lost": (paths.TRANSLATION[0], np.full((7, 3), np.nan), "row 0.*finite"),
    "energy in eV": (paths.ENERGY, 8800.0, "8800.*joules"),
    "energy of none": (paths.ENERGY, 0.0, "joules, > 0"),
    "energy of many": (paths.ENERGY, [1e-15, 2e-15], "one number"),
    "energy not a number": (paths.ENERGY, np.nan, "nan.*joules"),
    "energy of text": (paths.ENERGY, "8.8 keV", "one number of joules"),
    "distance negative": (DISTANCE, -1.0, "metres"),
    "data flat": (paths.DATA[1], np.zeros((7, 48), np.uint16), r"\[n, h, w\]"),
    "data empty": (paths.DATA[1], np.zeros((0, 8, 6), np.uint16), r"\[n, h, w\]"),
    "data complex": (paths.DATA[1], np.zeros((7, 8, 6), "c8"), "counts"),
    "mask of a frame each": (paths.MASK, np.zeros((7, 8, 6), "u4"), r"\(8, 6\)"),
    "mask over all": (paths.MASK, np.ones((8, 6), "u4"), "no usable pixel"),
    "probe oblong": (paths.ILLUMINATION, np.zeros((8, 6), "c8"), r"\[K, K\]"),
    "probe real": (paths.ILLUMINATION, np.zeros((8, 8)), "complex"),
    "probe infinite": (paths.ILLUMINATION, np.full((8, 8), np.inf + 0j), "finite"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(path: Path, name: str) -> None:
    where, value, expected = WRONG[name]
    edit(path, put(where, value))
    leaf = where.rsplit("/", 1)[1]  # the patterns may be named by either path
    with pytest.raises(FileFormatError, match=f"scan.cxi: /.*/{leaf}: .*{expected}"):
        CxiScan(path).__enter__()


NEEDED = [*paths.DATA[1:], *paths.TRANSLATION[:1], paths.ENERGY, DISTANCE]


@pytest.mark.parametrize("where", [*NEEDED, f"{paths.DETECTOR}/y_pixel_size"])
def test_what_is_missing_is_named(path: Path, where: str) -> None:
    def delete(file: h5py.File) -> None:
        del file[where]

    edit(path, delete)  # the soft links to it now lead nowhere
    with pytest.raises(
        FileFormatError, match=f"scan.cxi: .*{where}.*missing; expected"
    ):
        CxiScan(path).__enter__()


def test_a_group_where_data_should_be_is_missing_data(path: Path) -> None:
    def replace(file: h5py.File) -> None:
        del file[paths.ENERGY]
        file.create_group(paths.ENERGY)

    with pytest.raises(FileFormatError, match="energy: missing"):
        CxiScan(edit(path, replace)).__enter__()


def test_a_huge_claim_takes_no_memory(path: Path) -> None:
    def claim(file: h5py.File) -> None:
        del file[paths.DATA[1]]
        shape = (1 << 40, 1 << 20, 1 << 20)
        file.create_dataset(paths.DATA[1], shape, "u2", chunks=(1, 64, 64))

    with pytest.raises(FileFormatError, match=r"at most .* pixels"):
        CxiScan(edit(path, claim)).__enter__()


def test_a_damaged_chunk_is_told(path: Path) -> None:
    with h5py.File(path) as file:
        data = file[paths.DATA[1]]
        assert isinstance(data, h5py.Dataset)
        chunk = data.id.get_chunk_info(3)
        at, size = chunk.byte_offset, chunk.size
    raw = bytearray(path.read_bytes())
    raw[at : at + size] = b"\xff" * size
    path.write_bytes(raw)
    with CxiScan(path) as scan:
        with pytest.raises(FileFormatError, match="data that can be read"):
            list(scan.frames())


@pytest.mark.parametrize("raw", [b"", b"not HDF5 at all"])
def test_what_is_no_hdf5_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "other.cxi"
    path.write_bytes(raw)
    for wrong in (path, tmp_path / "absent.cxi"):
        with pytest.raises(FileFormatError, match="expected an HDF5 file"):
            CxiScan(wrong).__enter__()


@pytest.mark.parametrize(
    ("frames", "positions", "expected"),
    [
        (FRAMES, POSITIONS[:6], r"\(6, 2\).*\(7, 2\)"),
        (FRAMES.astype(float), POSITIONS, "unsigned"),
        ([], POSITIONS, "no frame"),
        ([FRAMES[0], FRAMES[0, :4]], POSITIONS, "frame 1.*expected"),
    ],
)
def test_a_scan_that_does_not_fit_is_not_written(
    tmp_path: Path, frames: Any, positions: np.ndarray, expected: str
) -> None:
    with pytest.raises(FileFormatError, match=expected):
        write_cxi(tmp_path / "bad.cxi", frames, positions, GEOMETRY)
    assert not list(tmp_path.iterdir())


def test_a_place_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="can't be written"):
        write_cxi(tmp_path / "no" / "folder.cxi", FRAMES, POSITIONS, GEOMETRY)


@pytest.mark.shared
def test_the_measured_siemens_star(shared: Path) -> None:
    with CxiScan(shared / "data" / "siemens-star.cxi") as scan:
        frames = list(scan.frames())
        start = scan.start("star")
        assert start.geometry is not None
        pixel_m = start.geometry.object_pixel_m((128, 128))
        assert scan.mask is not None
        assert scan.illumination is not None
        assert scan.mask.all()
        assert scan.illumination.shape == (1, 128, 128)
        y_m, x_m = scan.positions_m[0]
    assert len(frames) == start.frames_expected == 516
    assert pixel_m == pytest.approx((1e-8, 1e-8), rel=1e-6)
    assert (y_m, x_m) == pytest.approx((1.67531707e-06, -1.59493281e-06))
    total = np.sum([f.counts for f in frames], axis=0)
    assert total[32:96, 32:96].sum() > 0.8 * total.sum()  # zero frequency in the centre
