import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import DecodeError
from ptystream.wire import cbor, codecs
from ptystream.wire.cbor import Tag
from ptystream.wire.dectris2 import Dectris2Decoder
from ptystream.wire.dectris2_encode import Dectris2Encoder
from ptystream.wire.envelope import EncodedFrame, Limits, UnknownKind
from ptystream.wire.messages import (
    Calibration,
    Frame,
    Geometry,
    ScanEnd,
    ScanStart,
)
from tests.wire.dectris_streams import counts

# DECTRIS' documentation has these bytes; their own client decodes them.
VECTOR = bytes.fromhex(
    "d9d9f7a9647479706565696d6167656973657269"
    "65735f696405707365726965735f756e697175655f6964645549443568"
    "696d6167655f696400697265616c5f74696d658219c34f1a02faf080"
    "6b7365726965735f64617465c0781b"
    "323032342d30332d30375431343a34333a33352e3230303030305a"
    "6a73746172745f74696d6582001a02faf0806973746f705f74696d65"
    "8219c3501a02faf0806464617461a16b7468726573686f6c645f31"
    "d828828202 02d8454800000100 02002c01".replace(" ", "")
)
START: dict[str, Any] = {
    "type": "start",
    "series_id": 14,
    "series_unique_id": "01HBV3JPF9T4ZDPADX6EMK6XMZ",
    "beam_center_x": 5.0,
    "channels": ["threshold_1", "threshold_2"],
    "detector_description": "Dectris EIGER2 Si 16M",
    "detector_translation": [0.1, 0.2, -1.5],
    "flatfield": {"threshold_1": bytes(4)},  # a placeholder, as firmware sends
    "frame_time": 0.002,
    "image_size_x": 12,
    "image_size_y": 10,
    "incident_energy": 8000.0,
    "incident_wavelength": 1.55,
    "number_of_images": 3,
    "pixel_size_x": 75e-6,
    "pixel_size_y": 70e-6,
    "saturation_value": 21517,
}


def typed(array: np.ndarray, algorithm: str | None = "bslz4", **changes: Any) -> Tag:
    tag = {"|u1": 64, "<u2": 69, "<u4": 70, "<f4": 85}[array.dtype.str]
    content: Any = array.tobytes()
    if algorithm == "bslz4":
        payload = codecs.encode(array.view(f"<u{array.itemsize}"), "bslz4")
        content = Tag(56500, ["bslz4", array.itemsize, payload])
    elif algorithm == "lz4":
        content = Tag(56500, ["lz4", array.itemsize, framed(array)])
    elif algorithm:
        content = Tag(56500, [algorithm, array.itemsize, content])
    shape = changes.get("shape", list(array.shape))
    return Tag(
        40, [shape, Tag(changes.get("tag", tag), changes.get("content", content))]
    )


def framed(array: np.ndarray, block: int = 100) -> bytes:
    """HDF5's framing of LZ4; a block that doesn't shrink is stored."""
    import lz4.block

    raw, parts = array.tobytes(), [struct.pack(">QI", array.nbytes, block)]
    for at in range(0, len(raw), block):
        piece = raw[at : at + block]
        packed = lz4.block.compress(piece, store_size=False)
        packed = piece if len(packed) >= len(piece) else packed
        parts.append(struct.pack(">I", len(packed)) + packed)
    return b"".join(parts)


def image(index: int, **changes: Any) -> bytes:
    fields = {
        "type": "image",
        "series_id": 14,
        "series_unique_id": START["series_unique_id"],
        "image_id": index,
        "real_time": [50_000, 50_000_000],
        "start_time": [100_000, 50_000_000],
        "stop_time": [150_000, 50_000_000],
        "data": {"threshold_1": typed(counts(index))},
    }
    return cbor.encode(Tag(55799, {**fields, **changes}))


def end() -> bytes:
    return cbor.encode(Tag(55799, {"type": "end", "series_id": 14}))


def start(**changes: Any) -> bytes:
    return cbor.encode({**START, **changes})  # real starts come without the tag, too


class Received:
    def __init__(self, **limits: Any) -> None:
        self.decoder = Dectris2Decoder(Limits(**limits))
        self.messages: list[Any] = []
        self.errors: list[str] = []

    def take(self, *messages: bytes) -> "Received":
        for message in messages:
            try:
                for envelope in self.decoder.decode([message]):
                    self.messages.append(envelope.message)
            except DecodeError as e:
                self.errors.append(str(e))
        return self

    def of(self, kind: type) -> list[Any]:
        return [m for m in self.messages if isinstance(m, kind)]


def test_the_documented_image():
    begun, frame = Received().take(VECTOR).messages
    assert begun == ScanStart("series-5", "det", (2, 2), "<u2", meta={"series": 5})
    assert frame.decode().counts.tolist() == [[0, 1], [2, 300]]
    assert (frame.index, frame.start_ns, frame.stop_ns) == (0, 0, 1_000_000)


def test_a_whole_series():
    got = Received().take(start(), image(0), image(1), end(), end())
    begun, *_ = got.messages
    assert begun == ScanStart(
        "series-14",
        "det",
        (10, 12),
        None,
        3,
        Geometry(
            pytest.approx(1.55e-10),
            1.5,
            (70e-6, 75e-6),
            dict.fromkeys(("wavelength_m", "distance_m", "detector_pixel_m"), "stream"),
        ),
        0.002,
        meta={
            "series": 14,
            "description": "Dectris EIGER2 Si 16M",
            "geometry": {
                "wavelength_m": pytest.approx(1.55e-10),
                "distance_m": 1.5,
                "detector_pixel_m": [70e-6, 75e-6],
            },
            "saturation": 21517,
        },
    )
    for index, frame in enumerate(got.of(EncodedFrame)):
        np.testing.assert_array_equal(frame.decode().counts, counts(index))
        assert (frame.start_ns, frame.stop_ns) == (2_000_000, 3_000_000)
    assert got.of(ScanEnd) == [ScanEnd("series-14", "det", "complete")]
    assert len(got.messages) == 4


@pytest.mark.parametrize("algorithm", [None, "none", "lz4", "bslz4"])
@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<u4"])
def test_every_compression_is_bit_exact(algorithm, dtype):
    array = counts(1, (65, 67), dtype)
    message = image(1, data={"threshold_1": typed(array, algorithm)})
    (frame,) = Received().take(start(), message).of(EncodedFrame)
    decoded = frame.decode().counts
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(decoded, array)


@pytest.mark.parametrize("array", [np.zeros((64, 64), "<u2"), counts(0, (64, 64))])
def test_lz4_in_many_blocks_some_of_them_stored(array):
    message = image(1, data={"threshold_1": typed(array, "lz4")})
    (frame,) = Received().take(message).of(EncodedFrame)
    np.testing.assert_array_equal(frame.decode().counts, array)


def both(index: int = 0) -> bytes:
    first, second = typed(counts(index)), typed(counts(100 + index))
    return image(index, data={"threshold_2": second, "threshold_1": first})


@pytest.mark.parametrize(
    ("channel", "taken"), [(None, 0), ("threshold_1", 0), ("threshold_2", 100)]
)
def test_one_channel_is_taken_by_name_and_the_others_are_counted(channel, taken):
    got = Received(channel=channel).take(start(), both())
    (frame,) = got.of(EncodedFrame)
    np.testing.assert_array_equal(frame.decode().counts, counts(taken))
    assert len(got.of(UnknownKind)) == 1


def test_a_channel_that_is_not_there_is_named_with_those_that_are():
    got = Received(channel="threshold_9").take(start(), both())
    assert got.messages == []
    assert all("threshold_9" in e and "threshold_2" in e for e in got.errors)
    assert len(got.errors) == 2


def test_a_mask_and_a_flat_field():
    mask = (np.arange(120).reshape(10, 12) % 7 == 0).astype("<u4")
    flat = np.linspace(0.5, 2, 120, dtype="<f4").reshape(10, 12)
    got = Received().take(
        start(
            pixel_mask={"threshold_1": typed(mask), "threshold_2": typed(mask + 1)},
            flatfield={"threshold_1": typed(flat)},
            image_dtype="uint16",
        )
    )
    assert got.messages[0].dtype == "<u2"
    a, b = got.of(Calibration)
    assert (a.name, b.name) == ("pixel_mask", "flatfield")
    np.testing.assert_array_equal(a.array, mask)
    np.testing.assert_array_equal(b.array, flat)


@pytest.mark.parametrize("value", [5, "x", b"x", None, [], {}, [b"x"], {1: 2}, True])
def test_nonsense_in_a_start_counts_as_not_said(value):
    kept = ("type", "series_id")
    nonsense = {name: value for name in START if name not in kept}
    got = Received().take(start(**nonsense, user_data=value), image(0))
    assert got.errors == []
    assert got.messages[0].geometry is None
    assert len(got.of(EncodedFrame)) == 1


def test_user_data_names_the_scan():
    user = {"ptystream_scan": "mine", "uid": "u-1", "blob": b"not JSON"}
    got = Received().take(start(user_data=user), image(0), end())
    assert {m.scan for m in got.messages} == {"mine"}
    assert got.messages[0].meta["uid"] == "u-1"
    assert got.messages[0].meta["user_data_left_out"]


def test_a_start_sent_again_reminds_and_another_begins_anew():
    again = start(series_unique_id="another")
    got = Received().take(start(), image(0), start(), again)
    assert [s.again for s in got.of(ScanStart)] == [False, True, False]


BAD: dict[str, Any] = {
    "no data": {"data": None},
    "no channels": {"data": {}},
    "no number": {"image_id": None},
    "a negative number": {"image_id": -1},
    "a huge number": {"image_id": 2**63},
    "a text for a number": {"series_id": "14"},
    "a truth for a number": {"image_id": True},
    "truths for sides": {"data": {"a": typed(counts(0)[:1, :1], shape=[True, True])}},
    "no array": {"data": {"a": b"xx"}},
    "no array tag": {"data": {"a": Tag(41, [[1], b"x"])}},
    "columns first": {"data": {"a": Tag(1040, typed(counts(0)).value)}},
    "no dimensions": {"data": {"a": Tag(40, [b"x"])}},
    "one dimension": {"data": {"a": typed(counts(0), shape=[120])}},
    "a terabyte": {"data": {"a": typed(counts(0), shape=[1 << 19, 1 << 19])}},
    "a negative side": {"data": {"a": typed(counts(0), shape=[-10, -12])}},
    "floats": {"data": {"a": typed(np.ones((2, 2), "<f4"))}},
    "big-endian": {"data": {"a": typed(counts(0), tag=65)}},
    "too few bytes": {"data": {"a": typed(counts(0), content=b"xx")}},
    "text for bytes": {"data": {"a": typed(counts(0), content="xx")}},
    "no fields": {"data": {"a": typed(counts(0), content=Tag(56500, []))}},
    "an unknown algorithm": {"data": {"a": typed(counts(0), "zip")}},
    "another element": {
        "data": {"a": typed(counts(0), content=Tag(56500, ["bslz4", 4, b""]))}
    },
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_is_one_error_and_the_next_is_good(name):
    got = Received().take(start(channels=[]), image(0, **BAD[name]), image(1))
    assert len(got.errors) == 1
    assert [f.index for f in got.of(EncodedFrame)] == [1]


@pytest.mark.parametrize(
    "time",
    [None, 5, [1], [1, 0], [-1, 5], [1, -5], [True, 5], [5, True], ["1", 5], [5, "1"]],
)
def test_a_time_that_is_none_is_not_known(time):
    (frame,) = Received().take(start(), image(0, start_time=time)).of(EncodedFrame)
    assert (frame.start_ns, frame.stop_ns) == (0, 3_000_000)


def test_there_are_no_topics():
    assert Received().decoder.topics(["det"]) == [b""]


def test_a_frame_larger_than_the_limit_is_refused():
    got = Received(max_frame_bytes=239).take(image(0))
    assert got.errors == ["240 bytes, at most 239"]


def test_a_kind_from_the_future_is_passed_over():
    got = Received().take(cbor.encode({"type": "video"}), cbor.encode([1]))
    assert got.messages == [UnknownKind("video")]
    assert len(got.errors) == 1


@given(st.binary(max_size=100))
def test_arbitrary_bytes_raise_nothing_else(data):
    got = Received().take(data, b"\xd9\xd9\xf7" + data)
    assert got.of(EncodedFrame) == []


@given(st.data())
def test_damaged_messages_raise_nothing_else(data):
    messages = [start(user_data={"a": [1]}), image(0), both(), end()]
    for message in messages:
        damaged = bytearray(message)
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(damaged) - 1))
            damaged[at] ^= 1 << data.draw(st.integers(0, 7))
        for frame in Received().take(bytes(damaged)).of(EncodedFrame):
            try:
                frame.decode()
            except DecodeError:
                continue


@pytest.mark.parametrize("encoding", ["raw", "bslz4"])
@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<u4"])
def test_the_encoder_is_the_decoders_inverse(encoding, dtype):
    geometry = Geometry(1.25e-10, 1.5, (75e-6, 50e-6))
    begun = ScanStart("my scan", "det", (10, 12), dtype, 2, geometry, 0.002)
    mask = Calibration("my scan", "pixel_mask", np.eye(10, 12, dtype="<u4"))
    encoder = Dectris2Encoder(series=7, calibrations=[mask])
    frames = [Frame("my scan", i, counts(i, dtype=dtype), 1000, 2000) for i in (0, 1)]
    got = Received()
    for message in (begun, *frames, ScanEnd("my scan", "det", "complete")):
        (part,) = encoder.encode(message, encoding)
        got.take(bytes(part))
    assert not got.errors
    first, calibration, one, two, last = got.messages
    assert (first.shape, first.dtype, first.frames_expected) == ((10, 12), dtype, 2)
    assert first.geometry.wavelength_m == pytest.approx(1.25e-10, rel=1e-15)
    assert (first.geometry.distance_m, first.dwell_s) == (1.5, 0.002)
    np.testing.assert_array_equal(calibration.array, mask.array)
    for frame, coded in zip(frames, (one, two), strict=True):
        decoded = coded.decode()
        np.testing.assert_array_equal(decoded.counts, frame.counts)
        assert (decoded.scan, decoded.index) == ("my scan", frame.index)
        assert (decoded.start_ns, decoded.stop_ns) == (1000, 2000)
    assert last == ScanEnd("my scan", "det", "complete")


def test_the_encoder_refuses_what_the_wire_does_not_carry():
    with pytest.raises(ValueError, match="isn't one"):
        Dectris2Encoder().encode(EncodedFrame("a", 0, (1, 1), "<u2", "lz4", b""))
