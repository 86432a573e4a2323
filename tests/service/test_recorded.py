import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ptystream.config import load as load_config
from ptystream.errors import ConfigError
from ptystream.ingest.encoders import Axis, EncoderTable
from ptystream.ingest.endpoint import parse_endpoint
from ptystream.ingest.positions import PositionReader
from ptystream.service.encoders import ENCODERS, FileTape
from ptystream.service.offline import load
from ptystream.service.recorded import decoders_of, names_scans, request_of, tap_of
from ptystream.tape.format import Record
from ptystream.tape.log import TapeWriter
from ptystream.tape.replay import replay
from ptystream.tape.tcp_outlet import TcpOutlet
from ptystream.wire.messages import Message, Samples, ScanEnd
from tests.tape.scan_records import PIXELS, messages, records
from tests.tape.test_hxn import CENTRED, POINTS
from tests.tape.test_hxn import write as write_hxn

DECTRIS = {"stream": "det", "protocol": "dectris", "pattern": "pull"}
PANDA = {"stream": "pos", "protocol": "panda", "pattern": "tcp"}
AXES = [
    'positions.y={column="INENC1.VAL", scale_m=1.0}',
    'positions.x={column="INENC2.VAL", scale_m=1.0}',
    "positions.per_frame=1",
]


def test_a_tap_knows_how_its_wire_is_asked() -> None:
    panda = tap_of("pos", parse_endpoint("panda://localhost"))
    assert (panda.pattern, panda.protocol) == ("tcp", "panda")
    assert panda.request.startswith(b"XML")
    karabo = tap_of("det", parse_endpoint("karabo+req://localhost:1"))
    assert (karabo.pattern, karabo.request) == ("req", b"next")
    assert tap_of("det", parse_endpoint("ptys+sub://localhost:1")).request == b""


def test_a_protocol_from_the_future_is_named() -> None:
    header = {"taps": [{**DECTRIS, "protocol": "dectris9"}]}
    with pytest.raises(ConfigError, match=r"stream det: protocol 'dectris9'.*ptys"):
        decoders_of(header)


def test_the_native_wire_names_scans_and_detectors_don_t() -> None:
    assert names_scans({})
    assert not names_scans({"taps": [DECTRIS, PANDA]})


def test_a_connection_that_is_made_again_is_decoded_anew() -> None:
    chunks = [bytes(p) for m in _panda(12) for p in m]
    decode = decoders_of({"taps": [PANDA]})()["pos"]
    half = len(chunks) // 2
    for chunk in chunks[:half]:
        list(decode([chunk]))
    assert list(decode([b""])) == []  # cut off in the midst of an acquisition
    kinds = [type(e.message).__name__ for chunk in chunks for e in decode([chunk])]
    assert kinds == ["ScanStart", "Columns", "Columns", "ScanEnd"]


def _panda(n: int) -> list:
    encode = ENCODERS["pos"]["panda"]()
    return [parts for s, m in messages(n) if s == "pos" for parts in encode(m)]


def test_what_the_service_is_told_of_patterns_and_encoders_holds_for_a_tape(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.tape"
    tape = FileTape(lambda: messages(20), {"det": "dectris", "pos": "panda"}, 1000)
    with TapeWriter(path, {"taps": [DECTRIS, PANDA]}) as writer:
        writer.append_batch(tape)
    crop = "detector.crop=[2, 1, 4, 4]"
    config = load_config(environment={}, flags=[*AXES, crop])
    got = load(path, config=config)
    assert got.start.shape == (4, 4)
    assert sorted(e.frame.index for e in got.exposures) == list(range(20))
    for e in got.exposures:
        i = e.frame.index
        assert (e.frame.counts == (PIXELS + np.uint16(i))[2:6, 1:5]).all()
        assert e.mean_m == pytest.approx((2e-9 * i, (2 * i + 1) * 1e-9))


def test_a_file_as_records_begins_anew_each_time() -> None:
    tape = FileTape(lambda: messages(20), {"det": "ptys", "pos": "ptys"}, 1000.0)
    first, again = list(tape), list(tape)
    assert [r.mono_ns for r in first] == [r.mono_ns for r in again]
    assert [len(r.parts) for r in first] == [len(r.parts) for r in records(20)]
    assert first[-1].mono_ns == 20_000_000


@pytest.mark.parametrize(
    ("wires", "rate", "expected"),
    [
        ({"det": "morse"}, 100.0, "det as 'morse': expected .*dectris"),
        ({"pos": "dectris"}, 100.0, "pos as 'dectris': expected .*panda"),
        ({}, 0.0, "rate 0.0"),
    ],
)
def test_a_wire_that_nobody_speaks_is_named(wires, rate, expected) -> None:
    with pytest.raises(ConfigError, match=expected):
        FileTape(lambda: messages(1), wires, rate)


def test_an_hxn_file_is_read_as_any_scan(tmp_path: Path) -> None:
    path = write_hxn(tmp_path / "scan_7.h5", np.fft.ifftshift(CENTRED, axes=(1, 2)))
    got = load(path)
    assert got.start.scan == "scan_7"
    assert len(got.exposures) == len(CENTRED)
    for e in got.exposures:
        x, y = POINTS[:, e.frame.index]
        assert (e.frame.counts == CENTRED[e.frame.index]).all()
        assert e.mean_m == pytest.approx((y, x))


def test_the_service_s_own_reader_takes_a_replayed_panda() -> None:
    tape = [Record("pos", tuple(p), i, 0) for i, p in enumerate(_panda(25))]
    with TcpOutlet("tcp://127.0.0.1:*", request=request_of("panda")) as outlet:
        table = EncoderTable(Axis("INENC1.VAL"), Axis("INENC2.VAL"))
        endpoint = parse_endpoint(outlet.address.replace("tcp", "panda"))
        with PositionReader(endpoint, table=table, per_frame=1) as reader:
            replayed = threading.Thread(target=replay, args=(tape, {"pos": outlet}))
            replayed.start()
            got: list[Message] = []
            deadline = time.monotonic() + 20
            while not any(isinstance(m, ScanEnd) for m in got):
                got += reader.poll(time.monotonic())
                assert time.monotonic() < deadline
            replayed.join(10)
    rows = np.concatenate([m.position_m for m in got if isinstance(m, Samples)])
    assert rows == pytest.approx(np.arange(50.0).reshape(25, 2) * 1e-9)
