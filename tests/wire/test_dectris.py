import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptystream.errors import DecodeError
from ptystream.wire import native
from ptystream.wire.dectris import DectrisDecoder
from ptystream.wire.dectris_encode import DectrisEncoder
from ptystream.wire.envelope import EncodedFrame, Limits
from ptystream.wire.messages import (
    Calibration,
    Frame,
    Geometry,
    ScanEnd,
    ScanStart,
)
from tests.wire.dectris_streams import (
    CONFIG,
    Received,
    counts,
    dheader,
    end,
    flat,
    header,
    image,
    j,
    series_of,
)


def same(frame: EncodedFrame, index: int, dtype="<u2", shape=(10, 12)) -> bool:
    decoded = frame.decode().counts
    good = decoded.dtype == dtype and frame.index == index
    return good and np.array_equal(decoded, counts(index, shape, dtype))


@pytest.mark.parametrize("form", ["<", "raw", "lz4<", "bs"])
@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<u4"])
@pytest.mark.parametrize("block_header", ["proper", "zero", "none"])
def test_every_encoding_is_bit_exact(form, dtype, block_header):
    bits = 8 * np.dtype(dtype).itemsize
    encoding = f"bs{bits}-lz4<" if form == "bs" else form
    shape = (65, 67)
    parts = image(3, encoding=encoding, dtype=dtype, header=block_header, shape=shape)
    got = Received().take(header(), parts)
    (frame,) = got.frames
    assert same(frame, 3, dtype, shape)
    assert (frame.scan, frame.start_ns, frame.stop_ns) == ("series-14", 5, 9)
    assert not got.errors


def test_a_headers_configuration_becomes_the_scans_start():
    (start,) = Received().take(header()).messages
    assert start == ScanStart(
        scan="series-14",
        stream="det",
        shape=(10, 12),
        dtype="<u2",
        frames_expected=10,
        geometry=Geometry(
            pytest.approx(1.5498e-10),
            2.0,
            (0.00007, 0.000075),
            dict.fromkeys(("wavelength_m", "distance_m", "detector_pixel_m"), "stream"),
        ),
        dwell_s=0.001,
        meta={
            "series": 14,
            "description": "Dectris EIGER1 Si 1M",
            "detector_number": "E-02-0153",
            "geometry": {
                "wavelength_m": pytest.approx(1.5498e-10),
                "distance_m": 2.0,
                "detector_pixel_m": [0.00007, 0.000075],
            },
            "saturation": 60_000,
        },
    )


def test_the_energy_serves_where_there_is_no_wavelength():
    (start,) = Received().take(header(wavelength=0)).messages
    assert start.geometry.wavelength_m == pytest.approx(1.5498e-10, rel=1e-4)


def test_half_a_geometry_is_in_the_meta_only():
    (start,) = Received().take(header(detector_distance=0)).messages
    assert start.geometry is None
    assert "distance_m" not in start.meta["geometry"]
    assert start.meta["geometry"]["detector_pixel_m"] == [0.00007, 0.000075]


@pytest.mark.parametrize(
    ("mode", "expected"), [("ints", 30), ("exts", 30), ("inte", 3), ("exte", 3)]
)
def test_the_number_of_images_depends_on_the_trigger(mode, expected):
    (start,) = Received().take(header(trigger_mode=mode, ntrigger=3)).messages
    assert start.frames_expected == expected


@pytest.mark.parametrize("value", ["8", None, True, [1], {}, -1, 1e308, 10**400])
def test_nonsense_in_the_configuration_counts_as_not_said(value):
    (start,) = Received().take(header(**dict.fromkeys(CONFIG, value))).messages
    assert start.scan == "series-14"
    assert start.geometry is None


@pytest.mark.parametrize("appendix", [[], [b'{"filename": ""}'], [b"plain words"]])
@pytest.mark.parametrize("detail", ["none", "basic", "all"])
@pytest.mark.parametrize("layout", ["multipart", "glued", "flat", "split"])
def test_every_layout_of_a_series_is_the_same_scan(layout, detail, appendix):
    messages = [[*header(detail, nimages=3), *appendix]]
    messages += [[*image(i), *([b"{}"] if appendix else [])] for i in range(3)]
    messages += [[end()], [end()]]  # ``end`` and ``disarm``
    if layout == "glued":
        messages = [[part for parts in messages for part in parts]]
    elif layout == "flat":
        messages = list(flat(messages))
    elif layout == "split":  # dheader and the rest as messages of their own
        messages = [messages[0][:1], messages[0][1:] or [b"{}"], *messages[1:]]
    got = Received().take(*messages)
    # Without a configuration nobody knows that the last of single parts is the last.
    unsure = layout == "flat" and detail == "none"
    assert len(got.errors) == unsure
    start, ended = got.messages[0], got.messages[-1]
    assert isinstance(start, ScanStart)
    assert (start.scan, start.again) == ("series-14", False)
    assert (start.geometry is None) == (detail == "none")
    assert ended == ScanEnd("series-14", "det", "complete")
    assert len(got.of(ScanEnd)) == len(got.of(ScanStart)) == 1
    assert [same(f, i) for i, f in enumerate(got.frames)] == [True] * (3 - unsure)
    assert len(got.of(Calibration)) == (2 if detail == "all" else 0)


def test_all_details_bring_the_mask_and_the_flat_field():
    flatfield, mask = Received().take(header("all")).of(Calibration)
    assert (flatfield.name, flatfield.array.dtype) == ("flatfield", np.float32)
    np.testing.assert_array_equal(flatfield.array.ravel(), np.arange(120))
    assert (mask.name, mask.scan, mask.array.shape) == (
        "pixel_mask",
        "series-14",
        (10, 12),
    )
    np.testing.assert_array_equal(mask.array.ravel(), np.arange(120) % 7 == 0)


def test_images_republished_without_types_and_times():
    def bare(index: int) -> list[bytes]:
        _, data, blob, _ = image(index, encoding="<")
        return [j(frame=index, series=14), data, blob]

    got = Received().take(*(bare(i) for i in range(3)))
    assert [same(f, i) for i, f in enumerate(got.frames)] == [True] * 3
    assert isinstance(got.messages[0], ScanStart)
    assert not got.errors


def test_a_series_without_a_header_starts_with_its_first_image():
    got = Received().take(image(0), image(1), [end()])
    start = got.messages[0]
    assert start == ScanStart(
        "series-14", "det", (10, 12), "<u2", meta={"series": 14}, again=False
    )
    joined_late = Received().take(image(5), [end()]).messages[0]
    assert joined_late.again


def test_a_late_header_reminds_of_the_scan_that_its_images_began():
    got = Received().take(image(0), header(), image(1))
    first, late = got.of(ScanStart)
    assert (first.again, late.again, late.scan) == (False, True, "series-14")
    assert late.geometry is not None
    assert [f.scan for f in got.frames] == ["series-14"] * 2


def test_a_header_sent_again_reminds_and_another_begins_anew():
    got = Received().take(header(), image(0), header(), header(nimages=5))
    assert [s.again for s in got.of(ScanStart)] == [False, True, False]
    after = Received().take(header(), [end()], header())
    assert [s.again for s in after.of(ScanStart)] == [False, False]


def test_numbers_restart_with_each_series_and_leftovers_keep_their_name():
    got = Received().take(*series_of(2), header(series=15), image(2), [end()])
    got.take(image(0, series=15))
    names = [(f.scan, f.index) for f in got.frames]
    assert names == [
        ("series-14", 0),
        ("series-14", 1),
        ("series-14", 2),
        ("series-15", 0),
    ]
    assert len(got.of(ScanEnd)) == 1


def test_the_number_of_images_may_be_a_lie():
    got = Received().take(header(nimages=100_000), image(0), [end()])
    assert got.messages[0].frames_expected == 100_000
    assert got.messages[-1] == ScanEnd("series-14", "det", "complete", None)


def test_the_appendix_names_the_scan_and_its_run():
    user = {"ptystream_scan": "mine", "run_uid": "u-1", "scan": 7, "motor": [1, 2]}
    got = Received().take([*header(), j(**user)], image(0), [end()])
    start = got.messages[0]
    assert start.meta["user_data"] == user
    assert (start.meta["run_uid"], start.meta["scan"]) == ("u-1", 7)
    assert {m.scan for m in got.messages} == {"mine"}


@pytest.mark.parametrize(
    "appendix",
    [
        j(x="y" * 50_000),
        j(ptystream_scan=""),
        j(ptystream_scan="x" * 300),
        j(ptystream_scan=5),
        j(x=2**70),
        b"[" * 1000 + b"]" * 1000,
        j(x=[[[[[[[[[[1]]]]]]]]]]),
        b"\xff\xfe",
        b"x" * 100_000,
    ],
)
def test_an_appendix_that_cannot_go_on_is_left_out(appendix):
    (start,) = Received().take([*header(), appendix]).messages
    assert start.scan == "series-14"
    native.encode(start, seq=0, sent_ns=0)  # as the receiver process passes it on


def damaged(**changes) -> list[bytes]:
    """An image whose description lies."""
    head, _, blob, times = image(0)
    good = {
        "encoding": "bs16-lz4<",
        "htype": "dimage_d-1.0",
        "shape": [12, 10],
        "size": len(blob),
        "type": "uint16",
    }
    return [head, j(**{**good, **changes}), blob, times]


@pytest.mark.parametrize(
    "parts",
    [
        damaged(type="float32"),
        damaged(type="uint64"),
        damaged(shape=[12]),
        damaged(shape=[12, 10, 3]),
        damaged(shape=[12, 0]),
        damaged(shape=[12, -10]),
        damaged(shape=[1 << 19, 1 << 19]),
        damaged(encoding="bs32-lz4<"),
        damaged(encoding="bs16-lz4>"),
        damaged(encoding="zip"),
        damaged(encoding=5),
        damaged(encoding="<"),
        damaged(size=3),
        [j(htype="dimage-1.0", series=14), *image(0)[1:]],
        [j(htype="dimage-1.0", series=14, frame=-1), *image(0)[1:]],
        [j(htype="dimage-1.0", series=14, frame=2**63), *image(0)[1:]],
        [j(htype="dimage-1.0", frame=0), *image(0)[1:]],
        [image(0)[0], image(0)[2], image(0)[3]],
        [image(0)[0], image(0)[1], image(0)[3]],
        [image(0)[0], image(0)[1], image(0)[1], image(0)[2]],
        [b"rubbish"],
        [b""],
        [j(htype="dheader-1.0")],
    ],
)
def test_a_bad_message_is_one_error_and_the_next_is_good(parts):
    got = Received().take(header(), parts, image(1), image(2))
    assert len(got.errors) == 1
    assert [f.index for f in got.frames] == [1, 2]
    assert all(same(f, f.index) for f in got.frames)


def test_a_frame_larger_than_the_limit_is_refused_before_memory_is_taken():
    got = Received(Limits(max_frame_bytes=239)).take(header(), image(0))
    assert got.errors == ["image 0: 240 bytes, at most 239"]


@pytest.mark.parametrize("shape", [[1 << 19, 1 << 19], [12, 11], [12]])
def test_a_calibration_of_a_wrong_size_is_an_error_and_the_series_starts(shape):
    parts = header("all")
    parts[2] = j(htype="dflatfield-1.0", shape=shape, type="float32")
    got = Received().take(parts, image(0))
    assert len(got.errors) == 1
    assert len(got.of(ScanStart)) == len(got.frames) == 1


@pytest.mark.parametrize("encoding", ["<", "bs16-lz4<"])
@settings(max_examples=150)
@given(data=st.data())
def test_flattened_parts_that_get_lost_never_make_a_wrong_frame(data, encoding):
    """Pitfall 1: every part a message of its own, any runs of them dropped."""
    messages = [header(nimages=12), *(image(i, encoding=encoding) for i in range(12))]
    parts = [*flat([*messages, [end()]]), *flat([header(series=15)])]
    parts += [*flat([image(0, series=15)]), [end(15)]]
    lost: set[int] = set()
    for _ in range(data.draw(st.integers(0, 4))):
        first = data.draw(st.integers(0, len(parts) - 1))
        lost.update(range(first, first + data.draw(st.integers(1, 12))))
    got = Received().take(*(p for i, p in enumerate(parts) if i not in lost))
    assert all(same(f, f.index) for f in got.frames)
    # What is whole, and followed by what is whole, is there: no more is lost.
    whole = {i for i in range(11) if not lost & set(range(2 + 4 * i, 2 + 4 * i + 5))}
    assert whole <= {f.index for f in got.frames if f.scan == "series-14"}


def test_flattened_and_lost_parts_are_counted_once_for_each_frame():
    parts = list(flat(series_of(6)))
    del parts[2 + 4 * 2 + 1]  # how image 2 is described
    got = Received().take(*parts)
    assert [f.index for f in got.frames] == [0, 1, 3, 4, 5]
    assert len(got.errors) == 1


def test_the_last_flattened_image_needs_its_series_length():
    told = Received().take(*flat(series_of(2)))
    assert [f.index for f in told.frames] == [0, 1]
    untold = Received().take(*flat([image(0), [end()]]))
    assert untold.frames == []
    assert len(untold.errors) == 1


def test_a_stream_joined_in_the_middle_of_an_image():
    parts = list(flat([image(4), image(5), image(6), [end()]]))
    got = Received().take(*parts[2:])
    assert [f.index for f in got.frames] == [5]
    assert got.of(ScanStart)[0].again


def test_two_series_are_not_joined_over_a_loss_between_them():
    first, second = flat(series_of(3)), flat([header(series=15), image(0, series=15)])
    parts = [*first, *second, [end(15)]]
    at = 2 + 4 * 2 + 1  # after the number of the last image ...
    del parts[at : at + 3 + 1 + 2 + 1]  # ... to that of the next series' first
    got = Received().take(*parts)
    assert [f.index for f in got.frames] == [0, 1]
    assert len(got.errors) == 1


@given(st.lists(st.lists(st.binary(max_size=60), max_size=4), max_size=8))
def test_arbitrary_bytes_raise_nothing_else(messages):
    got = Received().take(*messages)
    assert not got.frames


PARTS = [*header("all"), *image(0), *image(1), end(), b"{}", b"", b"x" * 50]


@settings(max_examples=200)
@given(st.data())
def test_parts_in_any_order_and_damage_raise_nothing_else(data):
    messages = data.draw(
        st.lists(st.lists(st.sampled_from(PARTS), max_size=10), max_size=12)
    )
    changed = []
    for parts in messages:
        parts = [bytearray(p) for p in parts]
        for part in parts:
            if part and data.draw(st.booleans()):
                part[data.draw(st.integers(0, len(part) - 1))] ^= 1 << data.draw(
                    st.integers(0, 7)
                )
        changed.append([bytes(p) for p in parts])
    got = Received().take(*changed)
    for frame in got.frames:
        try:
            frame.decode()
        except DecodeError:
            continue


@pytest.mark.parametrize("detail", ["none", "basic", "all"])
@pytest.mark.parametrize("encoding", ["raw", "lz4", "bslz4"])
@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<u4"])
def test_the_encoder_is_the_decoders_inverse(encoding, dtype, detail):
    start = ScanStart(
        "my scan",
        "det",
        (10, 12),
        dtype,
        2,
        Geometry(1.25e-10, 1.5, (75e-6, 50e-6)),
        0.002,
    )
    mask = Calibration("my scan", "pixel_mask", np.eye(10, 12, dtype="<u4"))
    encoder = DectrisEncoder(series=7, detail=detail, calibrations=[mask])
    frames = [Frame("my scan", i, counts(i, dtype=dtype), 1000, 2000) for i in (0, 1)]
    sent = [start, *frames, ScanEnd("my scan", "det", "complete")]
    got = Received().take(
        *([bytes(p) for p in encoder.encode(m, encoding)] for m in sent)
    )
    assert not got.errors
    begun, ended = got.of(ScanStart)[0], got.messages[-1]
    assert (begun.scan, begun.meta["series"], ended.scan) == ("my scan", 7, "my scan")
    if detail != "none":
        assert (begun.shape, begun.dtype, begun.dwell_s) == ((10, 12), dtype, 0.002)
        assert begun.frames_expected == 2
        assert begun.geometry.wavelength_m == pytest.approx(1.25e-10, rel=1e-15)
        assert begun.geometry.detector_pixel_m == (75e-6, 50e-6)
    for frame, coded in zip(frames, got.frames, strict=True):
        decoded = coded.decode()
        np.testing.assert_array_equal(decoded.counts, frame.counts)
        assert (decoded.index, decoded.start_ns, decoded.stop_ns) == (
            frame.index,
            1000,
            2000,
        )
    if detail == "all":
        (calibration,) = got.of(Calibration)
        np.testing.assert_array_equal(calibration.array, mask.array)


def test_each_scan_of_an_encoder_has_a_series_of_its_own():
    encoder = DectrisEncoder()
    got = Received()
    for scan in "ab":
        start = ScanStart(scan, "det")
        got.take(encoder.encode(start), encoder.encode(start))  # type: ignore[arg-type]
    assert [s.meta["series"] for s in got.of(ScanStart)] == [1, 2, 3, 4]
    frame = EncodedFrame("a", 0, (1, 1), "<u2", "lz4-framed", b"")
    with pytest.raises(ValueError, match="isn't one"):
        encoder.encode(frame)


def test_memory_of_series_is_bounded():
    decoder = DectrisDecoder(Limits())
    for series in range(1000):
        list(decoder.decode(header(series=series)))
    assert len(decoder._series._series) == 8
    assert len(decoder._parts._last_of) == 4
    list(decoder.decode([dheader("all", 7)]))
    for _ in range(1000):
        array = j(htype="dflatfield-1.0", shape=[1, 1], type="float32")
        list(decoder.decode([array]))
        list(decoder.decode([bytes(4)]))
    assert decoder._parts._header is not None
    assert len(decoder._parts._header.arrays) <= 8
