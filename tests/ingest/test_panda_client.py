import asyncio
import os
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, aclosing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import zmq

from ptystream.errors import ConfigError
from ptystream.ingest.endpoint import parse_endpoint
from ptystream.ingest.panda_client import PandaClient
from ptystream.wire import panda
from ptystream.wire.columns import Columns
from ptystream.wire.envelope import Limits
from ptystream.wire.messages import ScanEnd, ScanStart
from tests.ingest.panda_server import PandaServer, acquisition
from tests.wire.test_panda import HEADER, table

ROWS = 5000


def speech(n: int = ROWS, missed: int = 0, reason: str = "Ok") -> bytes:
    header = replace(HEADER, missed=missed)
    return acquisition(header, table(missed + n)[missed:].tobytes(), n, reason)


def client(url: str, **options: Any) -> PandaClient:
    return PandaClient(parse_endpoint(url), limits=Limits(), **options)


def collect(
    reader: PandaClient, until: Callable[[list[Any]], bool], timeout_s: float = 10
) -> list[Any]:
    """Read as the service does: polling the one descriptor."""
    got: list[Any] = []
    poller = zmq.Poller()
    poller.register(reader.fileno(), zmq.POLLIN)
    deadline = time.monotonic() + timeout_s
    while not until(got):
        assert time.monotonic() < deadline, f"only {[type(m) for m in got]}"
        poller.poll(50)
        got += [envelope.message for envelope in reader.messages(16)]
    return got


def ended(got: list[Any]) -> bool:
    return any(isinstance(m, ScanEnd) for m in got)


def first_of(got: list[Any]) -> np.ndarray:
    return np.concatenate(
        [m.first + np.arange(len(m)) for m in got if isinstance(m, Columns)]
    )


def test_an_acquisition_is_read_from_a_real_socket():
    with (
        PandaServer([[b"OK\n", speech()]], stay=True) as box,
        client(box.url) as reader,
    ):
        got = collect(reader, ended)
        assert reader.connected
    assert box.asked == [b"XML FRAMED RAW\n"]
    assert isinstance(got[0], ScanStart)
    np.testing.assert_array_equal(first_of(got), np.arange(ROWS))
    assert got[-1] == ScanEnd(got[0].scan, "pos", "complete", ROWS)
    assert (reader.disconnects, reader.decode_errors) == (0, 0)


def test_bytes_may_come_in_any_pieces():
    data = b"OK\n" + speech(40)
    pieces = [data[k : k + 7] for k in range(0, len(data), 7)]
    with PandaServer([pieces], stay=True) as box, client(box.url) as reader:
        got = collect(reader, ended)
    np.testing.assert_array_equal(first_of(got), np.arange(40))


def test_after_the_end_of_the_connection_it_connects_again_and_misses_nothing():
    half = panda.encode_header(HEADER) + panda.encode_block(table(10).tobytes())
    speeches = [[b"OK\n", half + panda.encode_block(b"")], [b"OK\n", speech(20, 10)]]
    with PandaServer(speeches, stay=False) as box, client(box.url) as reader:
        got = collect(reader, ended)
        assert reader.disconnects >= 1
    starts = [m for m in got if isinstance(m, ScanStart)]
    assert [start.again for start in starts] == [False, True]
    assert len({start.scan for start in starts}) == 1
    np.testing.assert_array_equal(first_of(got), np.arange(30))


def test_a_peer_that_is_gone_costs_no_processor_time():
    with ExitStack() as stack:
        box = stack.enter_context(PandaServer([[b"OK\n"]]))
        with client(box.url) as reader:
            collect(reader, lambda _: reader.disconnects > 0)
            stack.close()
            began, spent, turns = time.monotonic(), time.process_time(), 0
            poller = zmq.Poller()
            poller.register(reader.fileno(), zmq.POLLIN)
            while time.monotonic() - began < 1.0:
                poller.poll(50)
                assert list(reader.messages(16)) == []
                turns += 1
            assert time.process_time() - spent < 0.2
            assert turns < 60  # the descriptor isn't readable all the time


@pytest.mark.parametrize(
    "nonsense",
    [b"ERR no such option\n", b"OK\n<header>\n</header>\n", b"OK\nBIN what\n"],
)
def test_nonsense_ends_the_connection_and_is_counted(nonsense):
    speeches = [[nonsense], [b"OK\n", speech(5)]]
    with PandaServer(speeches, stay=False) as box, client(box.url) as reader:
        got = collect(reader, ended)
    assert reader.decode_errors == 1
    np.testing.assert_array_equal(first_of(got), np.arange(5))


def test_retries_are_further_and_further_apart_and_bounded():
    now = [0.0]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    attempts: list[float] = []
    with client(f"panda://127.0.0.1:{port}", clock=lambda: now[0]) as reader:
        connect = reader._connect

        def counted() -> None:
            attempts.append(now[0])
            connect()

        reader._connect = counted  # type: ignore[method-assign]
        for _ in range(4000):
            list(reader.messages(1))
            now[0] += 0.01
    gaps = np.diff(attempts)
    assert gaps[0] < 0.5
    assert gaps[-1] == pytest.approx(5.0, abs=0.3)
    assert (np.diff(gaps) > -0.05).all()


def test_a_box_that_comes_late_is_found():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with client(f"panda://127.0.0.1:{port}") as reader:
        deadline = time.monotonic() + 5
        while reader._socket is not None and time.monotonic() < deadline:
            list(reader.messages(1))
        assert not reader.connected
        address = "127.0.0.1", port
        with PandaServer([[b"OK\n", speech(5)]], stay=True, address=address):
            collect(reader, ended)


def test_a_host_that_is_not_there_is_a_config_error():
    with pytest.raises(ConfigError, match="no-such-host"):
        client("panda://no-such-host.invalid").__enter__()


def test_the_default_port():
    assert parse_endpoint("panda://box").address == "tcp://box:8889"


def test_no_descriptor_is_left_open():
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(3):
        with PandaServer([[b"OK\n", speech(5)]]) as box, client(box.url) as reader:
            collect(reader, ended)
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after <= before


def test_the_boxs_own_client_reads_what_we_encode():
    """pandablocks' client insists on port 8889, so the fake has a loopback address."""
    client_of = pytest.importorskip("pandablocks.asyncio").AsyncioClient
    responses = pytest.importorskip("pandablocks.responses")
    host = f"127.0.{os.getpid() % 200 + 1}.{time.monotonic_ns() % 200 + 2}"

    async def read() -> tuple[list[Any], Any]:
        rows: list[Any] = []
        stream = client_of(host).data(scaled=False, frame_timeout=5)
        async with aclosing(stream):
            async for data in stream:
                if isinstance(data, responses.FrameData):
                    rows.append(data.data.copy())
                elif isinstance(data, responses.EndData):
                    return rows, data
        raise AssertionError("no end")

    header = replace(
        HEADER, fields=tuple(f for f in HEADER.fields if f.type != "int96")
    )
    packed = np.zeros(ROWS, header.dtype)
    for name in packed.dtype.names or ():
        packed[name] = table(ROWS)[name]
    parts = [panda.encode_header(header)]
    parts += [
        panda.encode_block(packed[k : k + 93].tobytes()) for k in range(0, ROWS, 93)
    ]
    parts.append(panda.encode_end(ROWS, "Disarmed"))
    with ExitStack() as stack:
        try:
            server = PandaServer([[b"OK\n", *parts]], stay=True, address=(host, 8889))
            stack.enter_context(server)
        except OSError as e:
            pytest.skip(f"no loopback address {host}: {e}")
        rows, end = asyncio.run(read())
    assert (end.samples, end.reason.value) == (ROWS, "Disarmed")
    got = np.concatenate(rows)
    for name in packed.dtype.names or ():
        np.testing.assert_array_equal(got[name], packed[name])
