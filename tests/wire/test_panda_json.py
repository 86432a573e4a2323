import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import DecodeError
from ptystream.wire.columns import Columns
from ptystream.wire.envelope import Envelope, Limits, UnknownKind
from ptystream.wire.messages import ScanEnd, ScanStart
from ptystream.wire.panda_json import Dialect, PandaJsonDecoder, PandaJsonEncoder

ARMED = "2025-02-28T18:44:22.905865051Z"
DIALECTS: list[Dialect] = ["hxn", "maxiv"]


def rows(first: int, n: int, scan: str = f"panda-{ARMED}") -> Columns:
    k = np.arange(first, first + n, dtype=float)
    return Columns(scan, first, {"INENC2.VAL.Value": 10 * k, "PCAP.TS_TRIG.Value": k})


def decoded(messages: list[list[bytes]], decoder: PandaJsonDecoder) -> list[Envelope]:
    return [envelope for parts in messages for envelope in decoder.decode(parts)]


def scan(dialect: Dialect, batches: int = 4, size: int = 5) -> list[list[bytes]]:
    encoder = PandaJsonEncoder(dialect)
    start = encoder.start(ARMED)
    data = [encoder.rows(rows(size * k, size)) for k in range(batches)]
    return [start, *data, encoder.end()]


def same(got: Any, expected: Columns) -> None:
    assert (got.scan, got.first) == (expected.scan, expected.first)
    assert got.columns.keys() == expected.columns.keys()
    for name, column in expected.columns.items():
        np.testing.assert_array_equal(got.columns[name], column)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_scan_comes_back_as_it_went(dialect):
    start, *data, end = decoded(scan(dialect), PandaJsonDecoder(Limits()))
    assert isinstance(start.message, ScanStart)
    assert start.message.scan == f"panda-{ARMED}"
    assert not start.message.again
    assert start.message.meta["arm_time"] == ARMED
    for k, envelope in enumerate(data):
        same(envelope.message, rows(5 * k, 5))
    assert end.message == ScanEnd(f"panda-{ARMED}", "pos", "complete", 20)


HXN = {
    "msg_type": "data",
    "frame_number": 3,
    "datasets": {
        "/INENC2.VAL.Value": {
            "dtype": "float64",
            "size": 2,
            "starting_sample_number": 41,
            "data": [1.5, 2.5],
        },
        "/PCAP.TS_TRIG.Value": {
            "dtype": "float64",
            "size": 2,
            "starting_sample_number": 41,
            "data": [0.1, 0.2],
        },
    },
}


def test_a_sample_has_the_number_that_its_message_says():
    decoder = PandaJsonDecoder(Limits())
    start, data = decoder.decode([json.dumps(HXN).encode()])
    assert isinstance(start.message, ScanStart)
    assert start.message.again  # we came when it had begun
    assert isinstance(data.message, Columns)
    assert data.message.first == 41  # and not 3, the message's number
    assert data.seq == 3
    np.testing.assert_array_equal(data.message.columns["INENC2.VAL.Value"], [1.5, 2.5])


@pytest.mark.parametrize("dialect", DIALECTS)
@given(st.sets(st.integers(1, 6)))
def test_a_lost_message_shifts_nothing_and_is_seen_by_its_number(dialect, lost):
    whole = scan(dialect, batches=6)
    got = decoded(
        [m for k, m in enumerate(whole) if k not in lost], PandaJsonDecoder(Limits())
    )
    columns = [e.message for e in got if isinstance(e.message, Columns)]
    assert [c.first for c in columns] == [
        5 * (k - 1) for k in range(1, 7) if k not in lost
    ]
    for c in columns:
        same(c, rows(c.first, 5))
    numbers = [e.seq for e in got if e.seq is not None]
    assert sum(np.diff(numbers) - 1) == len(lost) - leading(dialect, lost)
    end = got[-1].message
    assert isinstance(end, ScanEnd)
    assert end.sent == (None if 6 in lost else 30)


def leading(dialect: Dialect, lost: set[int]) -> int:
    """HXN's start has no number: what is lost just after it is not between two."""
    run = 0
    while dialect == "hxn" and run + 1 in lost:
        run += 1
    return run


def test_a_scan_whose_start_was_lost_is_another_scan():
    decoder = PandaJsonDecoder(Limits())
    first, second = scan("hxn"), scan("hxn")
    got = decoded([*first[:-1], *second[1:]], decoder)
    names = [e.message.scan for e in got if isinstance(e.message, Columns)]
    assert names == [f"panda-{ARMED}"] * 4 + ["panda-1"] * 4
    ends = [e.message for e in got if isinstance(e.message, ScanEnd)]
    assert [end.scan for end in ends] == ["panda-1"]


def test_the_first_message_twice_is_no_other_scan():
    start, first, *_ = scan("hxn")
    got = decoded([start, first, first], PandaJsonDecoder(Limits()))
    assert [type(e.message) for e in got] == [ScanStart, Columns, Columns]


def test_an_end_without_a_scan_is_nothing():
    assert decoded([scan("hxn")[-1]], PandaJsonDecoder(Limits())) == []


@pytest.mark.parametrize("key", ["msg_type", "message_type"])
def test_a_kind_from_the_future_is_named(key):
    (got,) = PandaJsonDecoder(Limits()).decode([json.dumps({key: "pause"}).encode()])
    assert got.message == UnknownKind("pause")


def changed(**changes: Any) -> bytes:
    return json.dumps({**HXN, **changes}).encode()


def dataset(first: Any, data: Any) -> dict[str, Any]:
    return {"starting_sample_number": first, "data": data}


MAXIV = {"message_type": "data", "message_id": 2, "version": 1, "frame_number": 0}
BAD = {
    "no JSON": b"{",
    "no object": b"[]",
    "no kind": b"{}",
    "no number": changed(frame_number=None),
    "a number below 0": changed(datasets={"a": dataset(-1, [1])}),
    "a number without bound": changed(datasets={"a": dataset(1 << 50, [1])}),
    "no columns": changed(datasets={}),
    "no data": changed(datasets={"a": dataset(0, None)}),
    "text": changed(datasets={"a": dataset(0, ["b"])}),
    "columns that begin apart": changed(
        datasets={"a": dataset(0, [1]), "b": dataset(1, [1])}
    ),
    "columns of two sizes": changed(
        datasets={"a": dataset(0, [1]), "b": dataset(0, [1, 2])}
    ),
    "too many rows": changed(datasets={"a": dataset(0, [1] * 101)}),
    "lists in a list": json.dumps({**MAXIV, "a": [[1], [2]]}).encode(),
    "text in a list": json.dumps({**MAXIV, "a": ["b"]}).encode(),
    "a number too large": b'{"message_type":"data","frame_number":0,"a":[%s]}'
    % (b"9" * 400),
    "deep": b'{"message_type":"data","frame_number":0,"a":' + b"[" * 5000,
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_rows_is_an_error(name):
    with pytest.raises(DecodeError):
        PandaJsonDecoder(Limits(max_samples=100)).decode([BAD[name]])


def test_as_many_rows_as_a_message_may_have_are_taken():
    most = changed(datasets={"a": dataset(0, [1] * 100)})
    *_, rows = decoded([[most]], PandaJsonDecoder(Limits(max_samples=100)))
    assert len(rows.message.columns["a"]) == 100


def test_several_parts_are_an_error():
    with pytest.raises(DecodeError):
        PandaJsonDecoder(Limits()).decode([b"{}", b"{}"])


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*HXN, "starting_sample_number", "data", "message_type"]),
            inner,
        )
    ),
    max_leaves=10,
)


@given(ANYTHING, st.sampled_from(["msg_type", "message_type"]))
def test_any_json_raises_decode_errors_only(value, key):
    for kind in "start", "data", "stop", "series-start", "series-end":
        message = {key: kind, **(value if isinstance(value, dict) else {"a": value})}
        decoder = PandaJsonDecoder(Limits())
        try:
            decoder.decode([json.dumps(message).encode()])
        except DecodeError:
            pass
