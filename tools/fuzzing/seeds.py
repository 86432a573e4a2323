"""Good input of each wire, made by its encoder: what a fuzzer begins with."""

import numpy as np

from ptystream.tape import format as fmt
from ptystream.tape.format import Record
from ptystream.tape.streams import StreamInfo
from ptystream.wire import codecs, native, panda
from ptystream.wire.areadetector import encode_array
from ptystream.wire.columns import Columns, Scaling
from ptystream.wire.dectris2_encode import Dectris2Encoder
from ptystream.wire.dectris_encode import DectrisEncoder
from ptystream.wire.envelope import encode_frame
from ptystream.wire.karabo import encode_train
from ptystream.wire.messages import (
    Calibration,
    Frame,
    Geometry,
    Heartbeat,
    Samples,
    ScanEnd,
    ScanStart,
)
from ptystream.wire.panda_json import PandaJsonEncoder
from tools.fuzzing.framing import join

SHAPE = 9, 11
GEOMETRY = Geometry(1e-10, 2.0, (75e-6, 75e-6), {"distance_m": "stream"})
START = ScanStart("s", "det", SHAPE, "<u2", 3, GEOMETRY, 0.001, meta={"a": [1, "b"]})
END = ScanEnd("s", "det", "complete", 3)
MASK = Calibration("s", "pixel_mask", np.eye(*SHAPE, dtype="<u4"))


def counts(dtype: str = "<u2", seed: int = 0) -> np.ndarray:
    """Return few photons."""
    return np.random.default_rng(seed).poisson(1.0, SHAPE).astype(dtype)


def frames() -> list[Frame]:
    """Return three frames of different pixel types."""
    return [Frame("s", i, counts(t, i), 5, 9) for i, t in enumerate(codecs.DTYPES)]


def native_wire() -> list[bytes]:
    """Return a whole scan."""
    coded = zip(frames(), codecs.ENCODINGS, strict=True)
    rows = Samples("s", 0, 2, np.arange(12.0).reshape(6, 2))
    messages = [START, rows, Heartbeat("s", "det"), END]
    scan = [native.encode(m, seq=i, sent_ns=1) for i, m in enumerate(messages)]
    scan += [native.encode(f, seq=f.index, sent_ns=1, encoding=e) for f, e in coded]
    return [join(scan), *(join([parts]) for parts in scan)]


def dectris() -> list[bytes]:
    """Return a series in one piece, and one whose parts come each by itself."""
    found: list[bytes] = []
    for encoding in codecs.ENCODINGS:
        encoder = DectrisEncoder(detail="all", calibrations=[MASK])
        sent = [encoder.encode(m, encoding) for m in (START, *frames(), END)]
        found += [join(sent), join([part] for parts in sent for part in parts)]
    return found


def dectris2() -> list[bytes]:
    """Return a series for each encoding."""
    found: list[bytes] = []
    for encoding in ("raw", "bslz4"):
        encoder = Dectris2Encoder(calibrations=[MASK])
        found.append(join(encoder.encode(m, encoding) for m in (START, *frames(), END)))
    return found


def cbor() -> list[bytes]:
    """Return the items of a series, one an input."""
    encoder = Dectris2Encoder(calibrations=[MASK])
    return [bytes(encoder.encode(m)[0]) for m in (START, *frames(), END)]


def areadetector() -> list[bytes]:
    """Return arrays of both dialects, and two scans in a row."""
    found: list[bytes] = []
    about = {"NumImages": 3, "uid": "s"}
    for encoding in codecs.ENCODINGS:
        coded = [encode_frame(frame, encoding) for frame in frames()]
        found.append(join(encode_array(f, attributes=about) for f in coded))
        found.append(
            join(encode_array(f, source="d", block_header=True) for f in coded * 2)
        )
    return found


def karabo() -> list[bytes]:
    """Return trains of one and of three pulses."""
    stack = np.stack([counts(seed=seed) for seed in range(3)])
    trains = [encode_train(10_000 + i, "A/B:c", stack) for i in range(2)]
    return [join(trains), join([encode_train(5, "A/B:c", stack[:1])])]


def panda_port() -> list[bytes]:
    """Return an acquisition, whole and in chunks."""
    scaling = Scaling(1e-4, 0.5, "mm")
    fields = (
        panda.Field("PCAP.GATE_DURATION", "Value", "uint32", Scaling(8e-9, 0, "s")),
        panda.Field("INENC1.VAL", "Mean", "int64", scaling),
        panda.Field("INENC2.VAL", "Mean", "int64", scaling),
        panda.Field("INENC2.VAL", "StdDev", "uint96", scaling),
    )
    found: list[bytes] = []
    for process in ("Raw", "Scaled"):
        header = panda.Header(fields, "2024-01-01T00:00:00Z", process=process)
        rows = np.ones(5, header.dtype).tobytes()
        blocks = [panda.encode_block(rows[:90]), panda.encode_block(rows[90:])]
        sent = [b"OK\n", panda.encode_header(header), *blocks, panda.encode_end(5)]
        found += [join([[b"".join(sent)]]), join([part] for part in sent)]
    return found


def panda_json() -> list[bytes]:
    """Return an acquisition in each dialect."""
    names = "INENC1.VAL.Mean", "INENC2.VAL.Mean"
    rows = [Columns("s", 4 * i, {n: np.arange(4.0) for n in names}) for i in range(2)]
    found: list[bytes] = []
    for dialect in ("hxn", "maxiv"):
        encoder = PandaJsonEncoder(dialect)
        sent = [encoder.start("t"), *map(encoder.rows, rows), encoder.end()]
        found.append(join(sent))
    return found


def payloads() -> list[bytes]:
    """Return a byte for the encoding, one for the pixel type, and the pixels."""
    found: list[bytes] = []
    for i, encoding in enumerate(codecs.ENCODINGS):
        for j, dtype in enumerate(codecs.DTYPES):
            payload = bytes(codecs.encode(counts(dtype), encoding))
            found.append(bytes([i, j]) + payload)
    framed = bytes(codecs.encode(counts(), "bslz4"))[:12]
    block = bytes(codecs.encode(counts(), "lz4"))
    return [*found, bytes([3, 1]) + framed + len(block).to_bytes(4, "big") + block]


def tapes() -> list[bytes]:
    """Return a byte that says whether checksums are mended, and a tape."""
    info = [StreamInfo(name).as_dict() for name in ("det", "pos")]
    text = fmt.encode_header({"taps": info})
    for i, message in enumerate([START, *frames(), END]):
        parts = native.encode(message, seq=i, sent_ns=1)
        record = Record("det", tuple(bytes(part) for part in parts), i, i)
        text += b"".join(fmt.encode_record(record, len(text))[0])
    return [b"\x00" + text, b"\x01" + text]
