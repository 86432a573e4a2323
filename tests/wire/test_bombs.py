"""Few bytes that claim, or unpack to, many: refused before memory is taken."""

import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import lz4.block
import msgspec
import numpy as np
import pytest

from ptystream.errors import DecodeError
from ptystream.wire import bslz4, cbor, codecs, native, panda
from ptystream.wire.cbor import Tag
from ptystream.wire.dectris2 import Dectris2Decoder
from ptystream.wire.dectris_config import expected_images
from ptystream.wire.envelope import Limits
from ptystream.wire.headers import MAX_INDEX
from ptystream.wire.karabo import MAX_PARTS, MAX_PULSES, KaraboDecoder, encode_train

SHAPE = 64, 64
ZEROS = bytes(64 << 20)  # 64 MiB, of which LZ4 makes 260 kB


@contextmanager
def within(nbytes: int) -> Iterator[None]:
    """Fail if more memory than this is taken at once."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < nbytes, f"{peak} bytes"


@pytest.fixture(scope="module")
def bomb() -> bytes:
    return lz4.block.compress(ZEROS, store_size=False)


def framed(bomb: bytes, total: int, block: int) -> bytes:
    return struct.pack(">QII", total, block, len(bomb)) + bomb


BOMBS: dict[str, Callable[[bytes], tuple[str, bytes]]] = {
    "lz4": lambda b: ("lz4", b),
    "framed lz4": lambda b: ("lz4-framed", framed(b, 8192, len(ZEROS))),
    "framed lz4 that says so": lambda b: (
        "lz4-framed",
        framed(b, len(ZEROS), len(ZEROS)),
    ),
    "bslz4": lambda b: ("bslz4", framed(b, 8192, 8192)),
    "bslz4 that says so": lambda b: ("bslz4", framed(b, len(ZEROS), 1 << 24)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_pixels_unpack_to_what_their_header_says_or_not_at_all(name, bomb):
    encoding, payload = BOMBS[name](bomb)
    out = np.empty(SHAPE, "<u2")
    with within(1 << 20), pytest.raises(DecodeError):
        codecs.decode_into(payload, encoding, out)
    with within(1 << 20), pytest.raises(DecodeError):
        codecs.decode_rows(payload, encoding, SHAPE, out.dtype, 0, 3)


def test_a_frame_of_a_terabyte_is_refused_by_its_header():
    huge = {"dt": "<u4", "sh": [(1 << 20) - 1] * 2, "enc": "lz4", "n": 1}
    head = {"v": 1, "k": "frame", "s": "det", "r": "s", "q": 0, "t": 0, "f": 0}
    parts = [b"ptys1/det/frame", msgspec.msgpack.encode({**head, "bufs": [huge]}), b"x"]
    with within(1 << 20), pytest.raises(DecodeError, match="at most"):
        native.decode(parts)


def test_a_mask_of_a_terabyte_is_refused_by_its_dimensions(bomb):
    packed = Tag(56500, ["lz4", 4, framed(bomb, len(ZEROS), len(ZEROS))])
    mask = Tag(40, [[1 << 15, 1 << 15], Tag(70, packed)])
    start = {"type": "start", "series_id": 1, "channels": ["a"]}
    text = cbor.encode({**start, "pixel_mask": {"a": mask}})
    with within(4 << 20), pytest.raises(DecodeError, match="at most"):
        list(Dectris2Decoder(Limits()).decode([text]))


@pytest.mark.parametrize("major", [2, 3, 4, 5], ids=["bytes", "text", "array", "map"])
def test_cbor_takes_no_length_on_trust(major):
    claim = bytes([major << 5 | 27]) + b"\x7f" + b"\xff" * 7
    with within(1 << 20), pytest.raises(DecodeError):
        cbor.decode(claim + bytes(100))


def test_bslz4_blocks_of_no_pixels_are_refused():
    payload = bslz4.HEADER.pack(8192, 8192) + struct.pack(">I", 0) * 1000
    with pytest.raises(DecodeError, match="fit"):
        codecs.decode_into(payload, "bslz4", np.empty(SHAPE, "<u2"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_an_entity_is_refused_however_it_is_written(encoding):
    entity = f'<!DOCTYPE h [<!ENTITY a "{"x" * 15000}">]>'
    data = '<data sample_bytes="4" process="Raw" format="Framed"/>'
    field = '<field name="A" type="int32" capture="Value"/>'
    fields = f"<fields>{field}</fields><x>{'&a;' * 500}</x>"
    text = f'<?xml version="1.0" encoding="{encoding[:6]}"?>{entity}'
    text += f"<header>{data}{fields}</header>\n"
    with within(1 << 20), pytest.raises(DecodeError, match="<!"):
        panda.decode_header(text.encode(encoding))


def test_a_train_has_as_many_pulses_as_a_machine_can_make():
    most = np.zeros((MAX_PULSES, 1, 1), "|u1")
    train = encode_train(1, "a", most)
    assert len(KaraboDecoder(Limits()).decode(train)) == MAX_PULSES + 1
    more = encode_train(1, "a", np.zeros((MAX_PULSES + 1, 1, 1), "|u1"))
    with within(1 << 20), pytest.raises(DecodeError, match="pulses"):
        KaraboDecoder(Limits()).decode(more)


def test_a_train_too_far_from_the_first_costs_itself_alone():
    decoder = KaraboDecoder(Limits())
    images = np.zeros((9, 1, 1), "|u1")
    decoder.decode(encode_train(0, "a", images))
    with pytest.raises(DecodeError, match="train"):
        decoder.decode(encode_train(MAX_INDEX - 1, "a", images))
    frames = decoder.decode(encode_train(1, "a", images))
    assert len(frames) == 9  # the same scan goes on
    assert frames[0].seq is None
    assert frames[-1].seq == 1


@pytest.mark.parametrize(
    ("images", "triggers", "expected"),
    [
        (5, 3, 15),
        (1 << 20, (1 << 20) - 1, (1 << 40) - (1 << 20)),
        (1 << 20, 1 << 20, None),
        (None, 3, None),
    ],
)
def test_more_images_than_there_are_indices_count_as_not_said(
    images, triggers, expected
):
    config = {"nimages": images, "ntrigger": triggers, "trigger_mode": "ints"}
    assert expected_images(config) == expected


def test_the_last_index_and_the_last_part_of_a_train_are_taken():
    decoder, images = KaraboDecoder(Limits()), np.zeros((1, 1, 1), "|u1")
    decoder.decode(encode_train(0, "a", images))
    last = encode_train(MAX_INDEX - 1, "a", images)
    assert decoder.decode(last)[-1].seq == MAX_INDEX - 1
    more = [*last[:2] * ((MAX_PARTS - len(last)) // 2), *last]
    assert len(more) == MAX_PARTS
    assert len(decoder.decode(more)) == 1
    with pytest.raises(DecodeError, match="4098 parts"):
        decoder.decode([*last[:2], *more])
