import socket
import threading
import time
from pathlib import Path

import pytest
import zmq

from ptystream.errors import ConfigError
from ptystream.tape.inlets import ByteInlet
from ptystream.tape.log import TapeReader
from ptystream.tape.recorder import Recorder
from ptystream.tape.taps import Tap
from tests.tape.tape_peers import Peers
from tests.tape.test_recorder import bound, until

REQUEST = b"XML FRAMED RAW\n"


class Box:
    """A plain TCP server: one client at a time, told what to say."""

    def __init__(self, port: int = 0) -> None:
        self._server = socket.create_server(("127.0.0.1", port))
        self._server.settimeout(10)
        self.port = self._server.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"

    def accept(self, answer: bytes) -> socket.socket:
        client, _ = self._server.accept()
        client.settimeout(10)
        assert client.recv(len(REQUEST), socket.MSG_WAITALL) == REQUEST
        client.sendall(answer)
        return client

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def box():
    box = Box()
    yield box
    box.close()


def tap(box: Box) -> Tap:
    return Tap("pos", box.address, "tcp", protocol="panda", request=REQUEST)


def chunks(path: Path) -> list[bytes]:
    with TapeReader(path) as tape:
        return [bytes(part) for record in tape for part in record.parts]


def test_a_plain_connection_is_recorded_byte_for_byte(box: Box, tmp_path) -> None:
    path = tmp_path / "panda.tape"
    with Recorder([tap(box)], path) as recorder:
        client = box.accept(b"OK\nfirst ")
        client.sendall(b"second")
        until_bytes(recorder, len(b"first second"))
        client.close()
        until_chunks(recorder, 1)
    assert b"".join(chunks(path)) == b"first second"
    assert chunks(path)[-1] == b""  # the end of the connection is on the tape
    with TapeReader(path) as tape:
        assert tape.header["taps"][0]["protocol"] == "panda"
        assert tape.header["taps"][0]["request"].encode() == REQUEST


def test_a_connection_that_ends_is_made_again(box: Box, tmp_path) -> None:
    path = tmp_path / "panda.tape"
    with Recorder([tap(box)], path) as recorder:
        for text in (b"one", b"two"):
            client = box.accept(b"OK\n")
            client.sendall(text)
            client.close()
        until_bytes(recorder, 6)
        until_chunks(recorder, 4)
    assert chunks(path) == [b"one", b"", b"two", b""]


def test_a_box_that_comes_later_is_found(tmp_path) -> None:
    early = Box()
    port = early.port
    early.close()
    path = tmp_path / "panda.tape"
    late = Tap("pos", f"tcp://127.0.0.1:{port}", "tcp", request=REQUEST)
    with Recorder([late], path) as recorder:
        time.sleep(0.3)  # some attempts are refused
        box = Box(port)
        client = box.accept(b"OK\n")
        client.sendall(b"hello")
        until_bytes(recorder, 5)
        client.close()
        box.close()
    assert chunks(path)[0] == b"hello"


def test_an_answer_other_than_ok_is_not_recorded(box: Box) -> None:
    inlet = ByteInlet(box.address, request=REQUEST)
    inlet.open()
    asked = threading.Thread(target=lambda: box.accept(b"ERR no\nrest").close())
    asked.start()
    deadline = time.monotonic() + 10
    while not inlet.refused:
        inlet.waiting_on()
        assert list(inlet.messages(9)) == []
        assert time.monotonic() < deadline
    asked.join()
    inlet.close()


@pytest.mark.parametrize("address", ["tcp://h", "ipc:///x", "tcp://127.0.0.1:x", ""])
def test_bad_addresses_are_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="pos"):
        Recorder([Tap("pos", address, "tcp")], "never").__enter__()


def test_what_has_to_be_asked_for_is_asked_for(peers: Peers, tmp_path) -> None:
    rep, address = bound(peers, zmq.REP)
    rep.setsockopt(zmq.RCVTIMEO, 10_000)
    path = tmp_path / "trains.tape"
    with Recorder([Tap("det", address, "req", request=b"next")], path) as recorder:
        for i in range(50):
            assert rep.recv() == b"next"
            rep.send_multipart([b"train", str(i).encode()])
        until(recorder, 50)
    assert chunks(path)[1::2] == [str(i).encode() for i in range(50)]


def test_a_server_that_was_restarted_is_asked_again(peers: Peers, tmp_path) -> None:
    first, address = bound(peers, zmq.REP)
    first.setsockopt(zmq.RCVTIMEO, 10_000)
    with Recorder(
        [Tap("det", address, "req", request=b"next")], tmp_path / "t.tape"
    ) as recorder:
        assert first.recv() == b"next"
        first.close(linger=0)  # the question is lost with it
        second = peers.socket(zmq.REP)
        second.setsockopt(zmq.RCVTIMEO, 10_000)
        bind(second, address)
        assert second.recv() == b"next"
        second.send(b"train")
        until(recorder, 1)


def bind(socket: zmq.Socket, address: str) -> None:
    """Bind as soon as the one who had the address has gone."""
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.bind(address)
        except zmq.ZMQError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            return


def until_bytes(recorder: Recorder, count: int) -> None:
    deadline = time.monotonic() + 10
    while recorder.stats().received_bytes < count:
        assert time.monotonic() < deadline, recorder.stats()
        time.sleep(0.005)


def until_chunks(recorder: Recorder, count: int) -> None:
    before = recorder.stats().received
    deadline = time.monotonic() + 10
    while recorder.stats().received < min(count, before + 1):
        assert time.monotonic() < deadline, recorder.stats()
        time.sleep(0.005)
