import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import DecodeError
from ptystream.wire.columns import Scaling
from ptystream.wire.panda import (
    MAX_BLOCK_BYTES,
    MAX_HEADER_BYTES,
    DataPort,
    End,
    Event,
    Field,
    Header,
    Rows,
    decode_header,
    encode_block,
    encode_end,
    encode_header,
)

UM = Scaling(1e-4, 5.0, "um")
HEADER = Header(
    fields=(
        Field("PCAP.GATE_DURATION", "Value", "uint32"),
        Field("INENC1.VAL", "Value", "int32", UM),
        Field("INENC1.VAL", "Min", "int32", UM),
        Field("INENC1.VAL", "Max", "int32", UM),
        Field("INENC1.VAL", "Diff", "int32", UM),
        Field("INENC1.VAL", "Sum", "int64", UM),
        Field("INENC1.VAL", "Mean", "int64", UM),
        Field("INENC2.VAL", "StdDev", "int96", UM),
        Field("PCAP.TS_START", "Value", "double", Scaling(8e-9, 0.0, "s")),
    ),
    arm_time="2026-01-01T00:00:00.000000001Z",
    start_time="2026-01-01T00:00:01.000000000Z",
)


def table(n: int) -> np.ndarray:
    rows = np.zeros(n, HEADER.dtype)
    k = np.arange(n)
    rows["PCAP.GATE_DURATION.Value"] = 125
    for capture, step in ("Value", 0), ("Min", -2), ("Max", 2):
        rows[f"INENC1.VAL.{capture}"] = 10 * k + step
    rows["INENC1.VAL.Diff"] = 4
    rows["INENC1.VAL.Sum"] = rows["INENC1.VAL.Mean"] = 10 * k * 125
    rows["PCAP.TS_START.Value"] = k * 1e-3
    return rows


def stream(rows: np.ndarray, sizes: list[int], end: str = "Ok") -> bytes:
    """What a box sends: blocks that end anywhere, as its own do."""
    data, parts = rows.tobytes(), [b"OK\n", encode_header(HEADER)]
    for size in (*sizes, len(data)):
        parts.append(encode_block(data[:size]))
        data = data[size:]
    return b"".join([*parts, encode_end(len(rows), end)])


def fed(data: bytes, sizes: list[int], port: DataPort | None = None) -> list[Event]:
    port = port or DataPort()
    events: list[Event] = []
    for size in (*sizes, len(data)):
        events += port.feed(data[:size])
        data = data[size:]
    return events


PIECES = st.lists(st.integers(1, 200), max_size=40)


@given(n=st.integers(1, 60), blocks=PIECES, chunks=PIECES)
def test_rows_come_whole_however_they_were_cut(n, blocks, chunks):
    header, *rows, end = fed(stream(table(n), blocks), chunks)
    assert header == HEADER
    assert end == End(n, "Ok")
    assert [r.first for r in rows] == np.cumsum([0, *map(len_of, rows)])[:-1].tolist()
    np.testing.assert_array_equal(np.concatenate([r.rows for r in rows]), table(n))


def len_of(rows: Event) -> int:
    assert isinstance(rows, Rows)
    return len(rows.rows)


def test_every_capture_becomes_counts():
    _, rows, _ = fed(stream(table(5), []), [])
    assert isinstance(rows, Rows)
    columns = rows.columns("a")
    ten = 10 * np.arange(5.0)
    expected = {"Value": ten, "Min": ten - 2, "Max": ten + 2, "Diff": np.full(5, 4)}
    expected |= {"Sum": 125 * ten, "Mean": ten}
    for capture, values in expected.items():
        np.testing.assert_array_equal(columns.columns[f"INENC1.VAL.{capture}"], values)
    assert columns.scaling["INENC1.VAL.Mean"] == UM
    assert "PCAP.GATE_DURATION.Value" not in columns.scaling
    assert "INENC2.VAL.StdDev" not in columns.columns  # of no use to a position


def test_a_mean_over_nothing_is_not_a_number():
    rows = table(2)
    rows["PCAP.GATE_DURATION.Value"][1] = 0
    _, got, _ = fed(stream(rows, []), [])
    assert isinstance(got, Rows)
    assert np.isfinite(got.columns("a").columns["INENC1.VAL.Mean"]).tolist() == [1, 0]


def test_a_mean_without_its_number_of_samples_is_refused():
    header = Header((Field("A.VAL", "Mean", "int64"),))
    rows = Rows(header, 0, np.ones(2, header.dtype))
    with pytest.raises(DecodeError, match=r"GATE_DURATION.*SAMPLES"):
        rows.columns("a")


def test_scaled_values_are_unscaled():
    header = Header((Field("A.VAL", "Mean", "double", UM),), process="Scaled")
    rows = np.array([(7 * 1e-4 + 5.0,)], header.dtype)
    columns = Rows(header, 0, rows).columns("a").columns
    np.testing.assert_allclose(columns["A.VAL.Mean"], [7.0])


def test_a_field_that_names_no_offset_has_none():
    text = encode_header(Header((Field("A.VAL", "Mean", "int64", UM),)))
    header = decode_header(text.replace(b' offset="5"', b""))
    assert header.fields[0].scaling == Scaling(1e-4, 0.0, "um")


def test_the_hidden_number_of_samples_of_older_boxes_is_found():
    text = encode_header(Header((Field("A.VAL", "Mean", "int64"),)))
    header = decode_header(text.replace(b'sample_bytes="8"', b'sample_bytes="12"'))
    assert [field.column for field in header.fields] == [
        "PCAP.SAMPLES.Value",
        "A.VAL.Mean",
    ]


@pytest.mark.parametrize(
    ("reason", "rows"),
    [
        ("Ok", 8),
        ("Disarmed", 8),
        ("Early disconnect", 4),
        ("Data overrun", 4),
        ("Framing error", 4),
        ("Driver data overrun", 4),
        ("DMA data error", 4),
        ("Something new", 4),
    ],
)
def test_after_an_error_the_last_block_is_not_trusted(reason, rows):
    half = 4 * HEADER.dtype.itemsize
    data = table(8).tobytes()
    parts = [
        encode_header(HEADER),
        encode_block(data[:half]),
        encode_block(data[half:]),
    ]
    _, *got, end = fed(b"".join([*parts, encode_end(8, reason)]), [])
    assert sum(map(len_of, got)) == rows
    assert end == End(8, reason)


def test_rows_missed_before_we_came_keep_their_numbers():
    text = encode_header(HEADER).replace(b'missed="0"', b'missed="17"')
    _, rows, _ = fed(text + encode_block(table(3).tobytes()) + encode_end(3), [])
    assert isinstance(rows, Rows)
    assert rows.first == 17


def test_one_acquisition_after_the_other():
    once = stream(table(3), [])
    events = fed(once + once.removeprefix(b"OK\n"), [7] * 100)
    assert [type(event) for event in events] == [Header, Rows, End] * 2
    assert [event.first for event in events if isinstance(event, Rows)] == [0, 0]


GOOD = encode_header(HEADER)
BAD = {
    "an error for an answer": b"ERR Invalid option\n",
    "a line without end": b"O" * 300,
    "a header without end": b"<header>\n" + b" " * (MAX_HEADER_BYTES + 1),
    "no XML": b"<header>\n</header>\n",
    "an entity": b'<!DOCTYPE a [<!ENTITY b "c">]>\n<header>\n</header>\n',
    "an unknown type": GOOD.replace(b"int96", b"int24"),
    "rows of another size": GOOD.replace(b'sample_bytes="', b'sample_bytes="9'),
    "unframed": GOOD.replace(b"Framed", b"ASCII"),
    "a field twice": GOOD.replace(b'"Min"', b'"Max"'),
    "rows missed without bound": GOOD.replace(b'missed="0"', b'missed="%d"' % 2**63),
    "a block of nothing": GOOD + b"BIN \x07\0\0\0",
    "a block too large": GOOD + b"BIN " + (MAX_BLOCK_BYTES + 1).to_bytes(4, "little"),
    "neither block nor end": GOOD + b"BAN ",
    "an end without a number": GOOD + b"END many Ok\n",
    "an end without a reason": GOOD + b"END 5\n",
}


@pytest.mark.parametrize("name", BAD)
def test_what_the_box_never_says_is_an_error(name):
    with pytest.raises(DecodeError):
        fed(BAD[name], [])


def test_nothing_is_kept_beyond_the_bounds():
    port = DataPort()
    piece = b"<" + b"x" * 4095
    for _ in range(MAX_HEADER_BYTES // len(piece)):
        list(port.feed(piece))
    with pytest.raises(DecodeError):
        list(port.feed(piece))
    assert len(port._buffer) <= MAX_HEADER_BYTES + len(piece)


@given(
    at=st.integers(0, 3000),
    junk=st.binary(min_size=1, max_size=40),
    chunks=PIECES,
)
def test_a_stream_that_is_damaged_anywhere_raises_decode_errors_only(at, junk, chunks):
    data = bytearray(stream(table(20), [100, 300]))
    data[at : at + len(junk)] = junk
    try:
        fed(bytes(data), chunks)
    except DecodeError:
        pass


@given(st.binary(max_size=300))
def test_any_bytes_raise_decode_errors_only(data):
    for head in b"", b"<header>\n", GOOD:
        try:
            fed(head + data, [])
        except DecodeError:
            pass


@pytest.mark.shared
@pytest.mark.parametrize(
    "name", ["raw_dump", "raw_dump_no_duration", "fast_dump", "slow_dump"]
)
@pytest.mark.parametrize("chunk", [997, 65536])
def test_a_real_box_is_read_as_its_own_client_reads_it(shared, name, chunk):
    connections = pytest.importorskip("pandablocks.connections")
    responses = pytest.importorskip("pandablocks.responses")
    data = (shared / "data" / "panda" / f"{name}.bin").read_bytes()
    theirs = connections.DataConnection()
    theirs.connect(scaled=False)
    events = list(theirs.receive_bytes(data))
    expected = np.concatenate(
        [e.data for e in events if isinstance(e, responses.FrameData)]
    )
    header, *rows, end = fed(data, [chunk] * (len(data) // chunk))
    got = np.concatenate([r.rows for r in rows if isinstance(r, Rows)])
    assert isinstance(header, Header)
    assert (len(got), end) == (len(expected), End(len(expected), "Disarmed"))
    for column in expected.dtype.names:
        np.testing.assert_array_equal(got[column], expected[column])
    assert decode_header(encode_header(header)) == header


@pytest.mark.shared
@pytest.mark.parametrize("name", ["raw_dump", "raw_dump_no_duration"])
def test_a_real_boxs_means_are_counts(shared, name):
    data = (shared / "data" / "panda" / f"{name}.bin").read_bytes()
    columns = [e.columns("a").columns for e in fed(data, []) if isinstance(e, Rows)]
    mean = np.concatenate([c["COUNTER1.OUT.Mean"] for c in columns])
    low = np.concatenate([c["COUNTER1.OUT.Min"] for c in columns])
    high = np.concatenate([c["COUNTER1.OUT.Max"] for c in columns])
    assert len(mean) == 10_000
    assert ((low <= mean) & (mean <= high)).all()
