"""What is fuzzed: a target takes any bytes, and raises only if something is wrong."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ptystream.errors import ConfigError, DecodeError
from ptystream.ingest.protocols import PROTOCOLS
from ptystream.publish import images, requests
from ptystream.wire import cbor, codecs
from ptystream.wire.curve import VARIABLES, environment_keys
from tools.fuzzing import seeds
from tools.fuzzing.files import index, index_seeds, tape
from tools.fuzzing.framing import PART, join, split
from tools.fuzzing.oracle import LIMITS, MOST_OF_ONE, Oracle, expect
from tools.fuzzing.sockets import control

Check = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Target:
    """``make`` returns the check, in the process that runs it; ``seeds`` good inputs.

    ``runs`` is how many inputs it gets by default.
    """

    make: Callable[[], Check]
    seeds: Callable[[], Sequence[bytes]]
    runs: int = 1_000_000


def wire(name: str) -> Callable[[], Check]:
    """Return a target's ``make``: a connection's decoder, and what comes after it."""

    def make() -> Check:
        oracle, new = Oracle(), PROTOCOLS[name].decoder

        def check(data: bytes) -> None:
            decoder = new(LIMITS)
            for parts in split(data):
                made = 0
                try:
                    for envelope in decoder.decode(parts):
                        oracle.take(envelope)
                        made += 1
                        expect(made <= MOST_OF_ONE, f"{made} of one message")
                except DecodeError:
                    continue

        return check

    return make


def item() -> Check:
    """Return a check of CBOR: what it lets through comes back when encoded."""

    def check(data: bytes) -> None:
        try:
            value = cbor.decode(data)
        except DecodeError:
            return
        again = cbor.decode(cbor.encode(value))
        expect(repr(again).count("nan") > 0 or _same(again, value), "CBOR changed")

    return check


def _same(one: object, other: object) -> bool:
    """Compare, byte strings by what they hold."""
    return cbor.encode(one) == cbor.encode(other)


def payload() -> Check:
    """Return a check of pixels: whole images and some of their rows are the same."""
    names = [*codecs.ENCODINGS, "lz4-framed"]
    dtypes = list(codecs.DTYPES.values())

    def check(data: bytes) -> None:
        if len(data) < 2:
            return
        name, dtype = names[data[0] % len(names)], dtypes[data[1] % len(dtypes)]
        out = np.empty(seeds.SHAPE, dtype)
        try:
            codecs.decode_into(data[2:], name, out)
        except DecodeError:
            return
        rows = codecs.decode_rows(data[2:], name, seeds.SHAPE, dtype, 2, 5)
        expect(np.array_equal(rows, out[2:5]), f"rows of {name} differ")

    return check


def picture() -> Check:
    """Return a check of previews."""

    def check(data: bytes) -> None:
        for parts in split(data):
            try:
                found = images.decode_picture(parts)
            except DecodeError:
                continue
            for image in found.images:
                expect(image.pixels.ndim in (2, 3), f"{image.pixels.shape}")
                with np.errstate(all="ignore"):
                    expect(image.values().dtype == np.float32, "no float32")

    return check


def pictures() -> list[bytes]:
    """Return a preview of two images."""
    pixels = np.arange(12, dtype="u1").reshape(3, 4)
    planes = pixels, np.ones((2, 3, 4), "<f4")
    made = [images.Image("a", p, 0.0, 1.0, (1e-9, 1e-9), (0.0, 0.0)) for p in planes]
    shown = images.Picture(tuple(made), {"run": "r", "step": 3})
    return [join([images.encode_picture(shown, {"seq": 1})])]


def request() -> Check:
    """Return a check of requests: what is understood can be answered."""

    def check(data: bytes) -> None:
        for parts in split(data):
            try:
                asked = requests.decode_request(parts)
            except DecodeError:
                continue
            requests.encode({"id": asked.id, "error": f"{asked.cmd!r}", **asked.args})

    return check


def asked() -> list[bytes]:
    """Return what clients ask."""
    texts = [
        b'{"cmd":"ping","id":1}',
        b'{"cmd":"status","id":"a","args":{}}',
        b'{"cmd":"stop","args":{"reason":"why","list":[1,2.5,null,true]}}',
    ]
    return [*texts, join([[b"", texts[0]], [texts[1]]])]


def keys() -> Check:
    """Return a check of keys in the environment."""

    def check(data: bytes) -> None:
        texts = [part.decode("latin-1") for part in data.split(PART, 2)]
        try:
            environment_keys(dict(zip(VARIABLES, texts, strict=False)))
        except ConfigError as e:
            secrets = [text.strip() for text in texts if len(text.strip()) >= 32]
            told = [secret for secret in secrets if secret in f"{e}"]
            expect(not told, "a key is told")

    return check


def some_keys() -> list[bytes]:
    """Return ZeroMQ's example keys, in Z85 and in base64."""
    public = b"Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
    secret = b"D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"
    coded = b"u0e9j+OmW5mmq0IjzO8dmWMTTDR6ka9kFmZkzb6lU5w="
    return [PART.join([public, public, secret]), PART.join([coded, public, secret])]


TARGETS: Mapping[str, Target] = {
    "native": Target(wire("ptys"), seeds.native_wire),
    "dectris": Target(wire("dectris"), seeds.dectris),
    "dectris2": Target(wire("dectris2"), seeds.dectris2),
    "cbor": Target(item, seeds.cbor),
    "areadetector": Target(wire("array"), seeds.areadetector),
    "karabo": Target(wire("karabo"), seeds.karabo),
    "panda": Target(wire("panda"), seeds.panda_port),
    "panda-json": Target(wire("panda-json"), seeds.panda_json),
    "codecs": Target(payload, seeds.payloads),
    "picture": Target(picture, pictures),
    "requests": Target(request, asked),
    "keys": Target(keys, some_keys),
    "tape": Target(tape, seeds.tapes),
    "index": Target(index, index_seeds, runs=100_000),
    "control": Target(control, asked, runs=100_000),
}
"""By name; those that need a file or a socket for each input get fewer."""
