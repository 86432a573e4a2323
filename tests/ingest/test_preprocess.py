"""Pixels as the detector sends them, and as the engine gets them."""

from dataclasses import replace
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ptystream.buffers.ring import Ring
from ptystream.errors import ConfigError, DecodeError
from ptystream.ingest.centre import light_centre, window_around
from ptystream.ingest.preprocess import Preprocess
from ptystream.ingest.preprocess_options import PreprocessOptions
from ptystream.ingest.records import COUNTERS, read_record, write_frame
from ptystream.wire.envelope import EncodedFrame, encode_frame
from ptystream.wire.messages import (
    Calibration,
    Frame,
    Geometry,
    Heartbeat,
    ScanEnd,
    ScanStart,
)

TYPES = ("|u1", "<u2", "<u4")


def made(tmp_path=None, crop=None, **options: Any) -> Preprocess:
    """A pre-processing with its files; arrays become files."""
    for name, value in options.items():
        if isinstance(value, np.ndarray):
            np.save(tmp_path / f"{name}.npy", value)
            options[name] = str(tmp_path / f"{name}.npy")
    preprocess = Preprocess(PreprocessOptions(**options), crop)
    preprocess.read_files()
    return preprocess


def encoded(counts: np.ndarray, index: int = 0, scan: str = "s") -> EncodedFrame:
    return encode_frame(Frame(scan, index, counts), "bslz4" if index % 2 else "raw")


def after(preprocess: Preprocess, counts: np.ndarray, scan: str = "s") -> np.ndarray:
    frame = encoded(counts, scan=scan)
    shape, dtype = preprocess.form(frame)
    out = np.full(shape, 77, dtype)
    preprocess.decode_into(frame, out)
    return out


def pattern(dtype: str = "<u2", shape: tuple[int, int] = (6, 8)) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 200, shape).astype(dtype)


def top(dtype: str | np.dtype) -> int:
    return int(np.iinfo(dtype).max)


@pytest.mark.parametrize("dtype", TYPES)
def test_by_default_pixels_go_through_as_they_are(dtype):
    counts = pattern(dtype)
    counts[0, :2] = top(dtype), top(dtype) - 1
    assert (after(made(), counts) == counts).all()
    assert (after(made(crop=(1, 2, 3, 4)), counts) == counts[1:4, 2:6]).all()
    start = ScanStart("s", "det", (6, 8), dtype, meta={"a": 1})
    assert made().take(start, 0) == [start]


@given(
    hnp.arrays("<u2", (5, 7), elements=st.integers(0, 1000)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
)
def test_orientation_is_transpose_then_flips_then_turns(counts, t, y, x, turns):
    preprocess = made(transpose=t, flip_y=y, flip_x=x, quarter_turns=turns)
    wanted = counts.T if t else counts
    wanted = wanted[::-1] if y else wanted
    wanted = wanted[:, ::-1] if x else wanted
    for _ in range(turns):  # the first row becomes the last column
        wanted = wanted[::-1].T
    assert (after(preprocess, counts) == wanted).all()
    (start,) = preprocess.take(ScanStart("s", "det", (5, 7)), 0)
    assert isinstance(start, ScanStart)
    assert start.shape == wanted.shape


@pytest.mark.parametrize("dtype", TYPES)
def test_flagged_dead_and_saturated_pixels_get_the_largest_value(dtype, tmp_path):
    counts = pattern(dtype)
    counts[0, 0], counts[0, 1], counts[0, 2] = top(dtype), top(dtype) - 1, 201
    dead = np.zeros(counts.shape, np.uint8)
    dead[5, 7] = 2
    got = after(made(tmp_path, mask=dead, saturation=201), counts)
    bad = np.zeros(counts.shape, bool)
    bad[0, :3] = bad[5, 7] = True
    assert (got[bad] == top(dtype)).all()
    assert (got[~bad] == counts[~bad]).all()


def test_dark_is_subtracted_flat_multiplies_and_thresholds_cut(tmp_path):
    counts = pattern()
    dark = np.random.default_rng(2).uniform(0, 50, counts.shape)
    flat = np.random.default_rng(3).uniform(0.5, 2, counts.shape)
    only_dark = np.maximum(counts - np.rint(dark), 0)
    assert (after(made(tmp_path, dark=dark), counts) == only_dark).all()
    both = np.rint(np.maximum((counts - dark) * flat, 0))
    assert (after(made(tmp_path, dark=dark, flat=flat), counts) == both).all()
    cut = np.where(counts < 100, 0, counts)
    assert (after(made(threshold=100), counts) == cut).all()


def test_a_flat_never_makes_a_count_that_looks_like_a_flag(tmp_path):
    flat = np.full((6, 8), 1e9)
    got = after(made(tmp_path, flat=flat), np.full((6, 8), 9, "|u1"))
    assert (got == 253).all()


@pytest.mark.parametrize(
    ("dtype", "n", "wider"),
    [("|u1", 2, "<u2"), ("|u1", 17, "<u4"), ("<u2", 2, "<u4"), ("<u4", 3, "<u4")],
)
def test_binning_sums_without_saturating(dtype, n, wider):
    largest = min(top(dtype) - 2, (top("<u4") - 2) // n**2)
    counts = np.full((2 * n, 3 * n + 1), largest, dtype)
    counts[0, 0] = top(dtype)
    counts[n, n] = 0
    got = after(made(binning=n), counts)
    assert got.dtype == wider
    assert got.shape == (2, 3)
    assert got[0, 0] == top(wider)  # one that isn't believed spoils its square
    assert got[0, 1] == n**2 * largest
    assert got[1, 1] == (n**2 - 1) * largest


def test_sums_beyond_every_type_stop_below_the_flags():
    got = after(made(binning=2), np.full((2, 2), top("<u4") - 2, "<u4"))
    assert got.tolist() == [[top("<u4") - 2]]


def test_all_of_it_in_the_stated_order(tmp_path):
    rng = np.random.default_rng(4)
    counts = rng.integers(0, 1000, (20, 30)).astype("<u2")
    counts[3, 4] = 65534
    dark, flat = rng.uniform(0, 9, (20, 30)), rng.uniform(0.9, 1.1, (20, 30))
    dead = rng.random((20, 30)) < 0.02
    preprocess = made(
        tmp_path,
        transpose=True,
        flip_x=True,
        dark=dark,
        flat=flat,
        mask=dead,
        threshold=50,
        size=(12, 8),
        centre=(15.4, 9.4),
        binning=2,
    )
    turn = [a.T[:, ::-1] for a in (counts.astype(float), dark, flat, dead)]
    raw, dark, flat, dead = turn
    exact = np.rint(np.maximum((raw - dark) * flat, 0))
    exact[exact < 50] = 0
    bad = dead | (raw >= 65534)
    y, x = 15 - 6, 9 - 4  # the beam's pixel is in square 3, 2 of 6, 4
    part, spoilt = exact[y : y + 12, x : x + 8], bad[y : y + 12, x : x + 8]
    sums = part.reshape(6, 2, 4, 2).sum((1, 3))
    spoilt = spoilt.reshape(6, 2, 4, 2).any((1, 3))
    wanted = np.where(spoilt, top("<u4"), sums)
    assert (after(preprocess, counts) == wanted).all()


@given(
    st.tuples(st.integers(4, 35), st.integers(4, 45)),
    st.sampled_from([1, 2, 4]),
)
def test_the_beam_falls_on_the_middle_wherever_it_is(beam, n):
    counts = np.zeros((40, 50), "<u2")
    counts[beam] = 1000
    got = after(made(size=(16, 16), centre=beam, binning=n), counts)
    assert got[8 // n, 8 // n] == 1000
    rows = beam[0] - 8 + np.arange(16)
    cols = beam[1] - 8 + np.arange(16)
    if n == 1:
        inside = ((rows >= 0) & (rows < 40))[:, None] & ((cols >= 0) & (cols < 50))
        assert (got[~inside] == top("<u2")).all()  # beyond the detector
        assert got[inside].sum() == 1000


def test_a_window_off_the_detector_is_refused():
    with pytest.raises(DecodeError, match="outside"):
        made(size=(4, 4), centre=(100.0, 2.0)).form(encoded(pattern()))
    with pytest.raises(DecodeError, match="smaller than the crop"):
        after(made(crop=(4, 4, 4, 4), threshold=1), pattern())


def test_corrections_of_another_shape_are_named(tmp_path):
    preprocess = made(tmp_path, dark=np.zeros((3, 3)))
    with pytest.raises(DecodeError, match=r"dark of shape \(3, 3\), frames of"):
        preprocess.form(encoded(pattern()))


def spot(y: float, x: float, shape=(60, 80), width: float = 4.0) -> np.ndarray:
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    return np.exp(-((rows - y) ** 2 + (cols - x) ** 2) / (2 * width**2))


@pytest.mark.parametrize("beam", [(30.0, 40.0), (21.0, 55.0), (12.0, 66.0)])
def test_the_centre_is_found_over_a_background(beam):
    light = np.random.default_rng(0).poisson(500 * spot(*beam) + 60)
    found = light_centre(light.astype(float), (24, 24))
    assert found == pytest.approx(beam, abs=0.5)


def test_the_centre_of_nothing_is_the_middle():
    assert light_centre(np.zeros((5, 9)), (4, 4)) == (2, 4)
    assert window_around((2, 4), (4, 4), 1) == (0, 2, 4, 4)


GEOMETRY = Geometry(1e-10, 2.0, (75e-6, 50e-6), {"distance_m": "stream"})


def test_a_scan_waits_for_its_centre_and_its_start_tells_it():
    preprocess = made(size=(16, 16), binning=2, transpose=True)
    start = ScanStart("s", "det", (60, 80), "<u2", geometry=GEOMETRY, meta={"a": 1})
    assert preprocess.take(start, 0) == []
    assert preprocess.take(Heartbeat("s", "det"), 0) == [Heartbeat("s", "det")]
    dark = np.zeros((60, 80), "<u2")  # the shutter was still closed
    lit = np.round(500 * spot(20, 50)).astype("<u2")
    lit[5, 5] = 65535
    passed = []
    for index in range(14):
        message = encoded(dark if index < 5 else lit, index)
        passed = preprocess.take(message, 0.01 * index)
        assert bool(passed) == (index >= 12)
        if index == 12:
            told, *frames = passed
            assert [f.index for f in frames] == list(range(13))
            assert isinstance(told, ScanStart)
            assert (told.shape, told.dtype) == ((8, 8), "<u4")
            assert told.geometry is not None
            assert told.geometry.detector_pixel_m == (100e-6, 150e-6)
            done = told.meta["preprocess"]
            assert told.meta["a"] == 1
            assert done["beam_centre_px"] == pytest.approx([50, 20], abs=0.3)
            assert done["beam_centre_from"] == "8 first frames"
            assert (done["binning"], done["transposed"]) == (2, True)
    (again,) = preprocess.take(replace(start, again=True), 1)
    assert isinstance(again, ScanStart)
    assert again.meta == told.meta
    got = after(preprocess, lit)
    assert got.argmax() == np.ravel_multi_index((4, 4), (8, 8))


@pytest.mark.parametrize(
    ("messages", "now_s"),
    [
        ([encoded(np.ones((20, 20), "<u2")), ScanEnd("s", "det", "complete")], 0),
        ([encoded(np.zeros((20, 20), "<u2"), i) for i in range(63)], 0),
        ([encoded(np.ones((20, 20), "<u2"))], 2.0),
    ],
)
def test_the_wait_for_a_centre_is_bounded(messages, now_s):
    """By the end, by the number of frames, by time: then what there was is used."""
    preprocess = made(size=(8, 8))
    start = ScanStart("s", "det", (20, 20))
    passed = [p for m in (start, *messages) for p in preprocess.take(m, 0)]
    passed += preprocess.tick(now_s)
    assert [type(p) for p in passed] == [type(m) for m in (start, *messages)]
    assert isinstance(passed[0], ScanStart)
    assert passed[0].meta["preprocess"]["window_px"] == [6, 6, 8, 8]


def test_a_start_without_frames_waits_as_long_as_it_takes():
    preprocess = made(size=(8, 8))
    assert preprocess.take(ScanStart("s", "det", (20, 20)), 0) == []
    assert preprocess.tick(1e6) == []


def test_each_scan_finds_its_own_centre_also_one_of_the_same_name():
    preprocess = made(size=(16, 16))
    for beam in ((20, 30), (40, 50)):
        preprocess.take(ScanStart("s", "det", (60, 80)), 0)
        lit = np.round(500 * spot(*beam)).astype("<u2")
        passed = []
        for index in range(8):
            passed += preprocess.take(encoded(lit, index), 0)
        found = passed[0].meta["preprocess"]["beam_centre_px"]
        assert found == pytest.approx(beam, abs=0.3)
        preprocess.take(ScanEnd("s", "det", "complete"), 0)


def test_a_frame_that_cannot_be_decoded_tells_no_centre():
    preprocess = made(size=(8, 8))
    bad = replace(encoded(np.ones((20, 20), "<u2"), 1), payload=b"12")
    assert preprocess.take(bad, 0) == []
    preprocess.take(encoded(np.ones((20, 20), "<u2")), 0)
    passed = preprocess.tick(3)
    assert [m.index for m in passed if isinstance(m, EncodedFrame)] == [1, 0]


def test_the_detectors_own_mask_is_used_and_its_flat_only_if_told():
    mask, flat = np.zeros((6, 8), "<u4"), np.full((6, 8), 2, "<f4")
    mask[1, 2] = 16
    counts = pattern()
    for option, factor in ((None, 1), ("stream", 2)):
        preprocess = made(flat=option)
        preprocess.take(ScanStart("s", "det", (6, 8)), 0)
        assert preprocess.take(Calibration("s", "pixel_mask", mask), 0) == []
        assert preprocess.take(Calibration("s", "flatfield", flat), 0) == []
        got = after(preprocess, counts)
        wanted = counts * factor
        wanted[1, 2] = 65535
        assert (got == wanted).all()
        assert (after(preprocess, counts, scan="other") == counts).all()
    ignoring = made(mask=None)
    ignoring.take(Calibration("s", "pixel_mask", mask), 0)
    assert (after(ignoring, counts) == counts).all()


def test_a_calibration_that_does_not_fit_is_left_out(caplog):
    preprocess = made()
    preprocess.take(Calibration("s", "pixel_mask", np.ones((3, 3), "<u4")), 0)
    counts = pattern()
    assert (after(preprocess, counts) == counts).all()
    assert "doesn't fit" in caplog.text


@pytest.mark.parametrize("said", [150, None, "many", True, -3])
def test_the_streams_saturation_is_used_unless_told(said):
    counts = pattern()
    start = ScanStart("s", "det", (6, 8), meta={"saturation": said})
    streams, own = made(threshold=1), made(saturation=100)
    for preprocess, limit in ((streams, 150 if said == 150 else 65534), (own, 100)):
        preprocess.take(start, 0)
        wanted = np.where(counts >= limit, 65535, counts)
        assert (after(preprocess, counts) == wanted).all()


def test_arrays_come_from_numpy_or_hdf5(tmp_path):
    dark = np.arange(48).reshape(6, 8)
    with h5py.File(tmp_path / "dark.h5", "w") as file:
        file["entry/dark"] = dark
    preprocess = made(dark=f"{tmp_path}/dark.h5:/entry/dark")
    counts = pattern()
    wanted = np.maximum(counts.astype(int) - dark, 0)
    assert (after(preprocess, counts) == wanted).all()


@pytest.mark.parametrize(
    "content",
    [None, np.zeros(3), np.full((2, 2), np.nan), np.zeros((2, 2), "c8"), b"x"],
)
def test_a_file_that_is_no_picture_is_refused_in_words(content, tmp_path):
    file = tmp_path / "flat.npy"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        np.save(file, content)
    with pytest.raises(ConfigError, match=r"detector\.preprocess\.flat .*flat\.npy"):
        made(flat=str(file))


def test_a_dataset_that_is_not_there_is_refused_in_words(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("entry")
    for place in ("a.h5:/entry", "a.h5:/nothing", "b.h5:/x"):
        with pytest.raises(ConfigError, match=r"expected FILE\.npy or FILE\.h5"):
            made(mask=f"{tmp_path}/{place}")


def test_frames_reach_the_ring_in_their_new_form():
    preprocess = made(size=(4, 4), centre=(3.5, 3.5), binning=2)
    counts = pattern()
    with Ring.create(1 << 16, counters=COUNTERS) as ring:
        assert write_frame(ring, encoded(counts, 5), preprocess)
        record = ring.peek()
        assert record is not None
        frame = read_record(record)
        ring.release()
        assert isinstance(frame, Frame)
        assert (frame.index, frame.counts.dtype) == (5, np.dtype("<u4"))
        wanted = counts[1:5, 1:5].reshape(2, 2, 2, 2).sum((1, 3))
        assert frame.counts.tolist() == wanted.tolist()
        del record, frame


def test_what_is_remembered_of_scans_is_bounded():
    preprocess = made(size=(4, 4))
    for number in range(10):
        preprocess.take(ScanStart(f"s{number}", "det", (6, 8)), 0)
    assert len(preprocess._scans) == 4
