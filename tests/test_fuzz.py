"""What ``tools/fuzz`` feeds, without its leading by coverage; and what it found."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.ingest.protocols import PROTOCOLS
from ptystream.tape import format as fmt
from ptystream.wire.envelope import Envelope, encode_frame
from ptystream.wire.messages import ScanStart
from tools.fuzzing import oracle, seeds
from tools.fuzzing.framing import MAX_MESSAGES, MAX_PARTS, join, split
from tools.fuzzing.oracle import BrokenError, Oracle
from tools.fuzzing.targets import TARGETS, Check

pack = msgspec.msgpack.encode
QUICK = sorted(set(TARGETS) - {"control"})  # whose thread would outlive a test


@cache
def target(name: str) -> tuple[Check, list[bytes]]:
    return TARGETS[name].make(), list(TARGETS[name].seeds())


@st.composite
def damaged(draw: st.DrawFn, name: str) -> bytes:
    """A seed with bytes changed, taken out and put in, or two of them joined."""
    good = target(name)[1]
    data = bytearray(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(0, 4))):
        at, stop = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
        data[at : min(stop, at + 8)] = draw(st.binary(max_size=8))
    if draw(st.booleans()):
        other = draw(st.sampled_from(good))
        data += other[draw(st.integers(0, len(other))) :]
    return bytes(data)


@pytest.mark.parametrize("name", QUICK)
def test_good_input_is_taken(name: str):
    check, good = target(name)
    for data in good:
        check(data)


@pytest.mark.parametrize("name", QUICK)
@given(data=st.data())
def test_damaged_input_does_no_harm(name: str, data: st.DataObject):
    target(name)[0](data.draw(damaged(name)))


@given(st.lists(st.lists(st.binary(max_size=9), min_size=1, max_size=4), max_size=5))
def test_an_input_is_messages_of_parts(messages: list[list[bytes]]):
    assert split(join(messages)) == (messages or [[b""]])
    assert len(split(join([[b""]] * 99))) == MAX_MESSAGES
    assert len(split(join([[b""] * 99]))[0]) == MAX_PARTS


def array_of(pulses: int, train: int) -> list[bytes]:
    about = {"source": "a", "path": "image.data", "dtype": "uint8"}
    begin = {"source": "a", "content": "msgpack", "metadata": {"timestamp.tid": train}}
    image = {**about, "content": "array", "shape": [pulses, 1, 1]}
    return [pack(begin), b"\x80", pack(image), bytes(pulses)]


def header_of_tape(text: object) -> bytes:
    return b"\x01" + fmt.encode_header({"taps": text})


def preview(**changes: object) -> list[bytes]:
    about = {"name": "a", "dtype": "|u1", "shape": [1, 3], "low": 0, "high": 1}
    places = {"pixel_m": [1, 1], "origin_m": [0, 0]}
    return [pack({"images": [{**about, **places, **changes}]}), b"abc"]


def misnamed() -> bytes:
    """Return a tape whose last record has a name that isn't UTF-8, checksums right."""
    tape = seeds.tapes()[1]
    at = tape.rindex(fmt.SYNC) + fmt.HEAD_BYTES
    return tape[:at] + b"\xff\xff\xff" + tape[at + 3 :]


SERIES = json.dumps({"htype": "dheader-1.0", "header_detail": "basic", "series": 1})
MANY = json.dumps({"nimages": 1 << 30, "ntrigger": 1 << 30})
FOUND = {
    "a pixel an image, 700 bytes each": ("karabo", join([array_of(10_000, 7)])),
    "a train beyond all indices": (
        "karabo",
        join([array_of(9, 0), array_of(9, (1 << 40) - 1)]),
    ),
    "more images than indices": ("dectris", join([[SERIES.encode(), MANY.encode()]])),
    "a tape's streams are a number": ("tape", header_of_tape(5)),
    "a stream's name that isn't UTF-8": ("tape", misnamed()),
    "a side to be guessed": ("picture", join([preview(shape=[-1])])),
    "a picture of one dimension": ("picture", join([preview(shape=[3])])),
    "an index that is a zip": ("index", b"\x00PK\x03\x04" + bytes(40)),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_does_no_harm_any_more(name: str):
    which, data = FOUND[name]
    target(which)[0](data)


class Lying:
    """A decoder that promises nothing."""

    def __init__(self, *messages: object) -> None:
        self._messages = messages

    def decode(self, parts: list[bytes]) -> list[Envelope]:
        if not self._messages:
            raise KeyError(parts[0])
        return [Envelope(m, "det", "s", None, 0) for m in self._messages]  # pyright: ignore


@pytest.mark.parametrize(
    ("decoder", "error"),
    [
        (Lying(), KeyError),
        (Lying(seeds.frames()[0]), BrokenError),
        (Lying(*[ScanStart("s", "det")] * (oracle.MOST_OF_ONE + 1)), BrokenError),
    ],
    ids=["another error", "pixels already", "too many"],
)
def test_a_broken_promise_is_noticed(decoder, error, monkeypatch: pytest.MonkeyPatch):
    lying = replace(PROTOCOLS["ptys"], decoder=lambda limits: decoder)
    monkeypatch.setitem(PROTOCOLS, "ptys", lying)
    with pytest.raises(error):
        TARGETS["native"].make()(b"x")


def test_an_index_beyond_all_is_noticed():
    frame = replace(encode_frame(seeds.frames()[0]), index=1 << 40)
    with pytest.raises(BrokenError, match="frame"):
        Oracle().take(Envelope(frame, "det", "s", None, 0))


@pytest.mark.slow
def test_the_tool_runs_a_target_and_says_how_it_went(tmp_path: Path):
    pytest.importorskip("atheris")
    command = [sys.executable, "-m", "tools.fuzzing", "requests", "--runs=5000"]
    root = Path(__file__).parents[1]
    run = subprocess.run(
        [*command, f"--found={tmp_path / 'found'}"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert run.stdout.split()[:3] == ["requests", "5000", "inputs"]
    assert not (tmp_path / "found").exists()
