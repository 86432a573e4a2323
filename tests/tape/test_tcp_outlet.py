import socket
import threading

import pytest

from ptystream.errors import ConfigError, StoppedError
from ptystream.tape.format import Record
from ptystream.tape.inlets import ByteInlet
from ptystream.tape.log import TapeReader
from ptystream.tape.recorder import Recorder
from ptystream.tape.replay import replay
from ptystream.tape.taps import Tap
from ptystream.tape.tcp_outlet import TcpOutlet

REQUEST = b"XML FRAMED RAW\n"
HERE = "tcp://127.0.0.1:*"


def chunk(data: bytes, at_ms: int = 0) -> Record:
    return Record("pos", (data,), at_ms * 1_000_000, 0)


class Client(threading.Thread):
    """Asks, and reads to the end."""

    def __init__(self, outlet: TcpOutlet, request: bytes = REQUEST) -> None:
        super().__init__()
        port = int(outlet.address.rpartition(":")[2])
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.sendall(request)
        self.got = b""
        self.start()

    def run(self) -> None:
        while data := self.socket.recv(1 << 16):
            self.got += data
        self.socket.close()


def test_clients_get_an_answer_and_every_byte() -> None:
    with TcpOutlet(HERE, request=REQUEST) as outlet:
        clients = [Client(outlet), Client(outlet, b"RAW XML FRAMED\n")]
        while len(outlet._clients) < 2:
            assert outlet.wait_for_peer(10)
        stats = replay([chunk(b"abc"), chunk(b"def", 5)], {"pos": outlet})
    for client in clients:
        client.join(10)
        assert client.got == b"OK\nabcdef"
    assert (stats.sent, stats.dropped, stats.sent_bytes) == (2, 0, 6)


def test_other_wishes_are_refused_and_told() -> None:
    with TcpOutlet(HERE, request=REQUEST) as outlet:
        client = Client(outlet, b"XML FRAMED SCALED\n")
        assert not outlet.wait_for_peer(0.5)
        client.join(10)
    assert client.got == b"ERR this tape holds XML FRAMED RAW\n"


def test_who_comes_in_the_midst_waits_for_the_next_connection() -> None:
    with TcpOutlet(HERE, request=REQUEST) as outlet:
        early = Client(outlet)
        assert outlet.wait_for_peer(10)
        assert outlet.send(chunk(b"one"))
        late = Client(outlet)
        assert outlet.send(chunk(b"two"))
        assert outlet.send(chunk(b""))
        early.join(10)
        assert outlet.wait_for_peer(10)
        assert outlet.send(chunk(b"three"))
    late.join(10)
    assert (early.got, late.got) == (b"OK\nonetwo", b"OK\nthree")


def test_each_loop_is_a_connection_of_its_own(tmp_path) -> None:
    path = tmp_path / "loops.tape"
    with TcpOutlet(HERE, request=REQUEST) as outlet:
        tap = Tap("pos", outlet.address, "tcp", request=REQUEST)
        with Recorder([tap], path, idle_s=1.0) as recorder:
            stats = replay([chunk(b"head"), chunk(b"end")], {"pos": outlet}, loops=3)
            assert recorder.wait(10)
    assert stats.sent == 6
    with TapeReader(path) as tape:
        text = b"|".join(b"".join(map(bytes, r.parts)) for r in tape)
    assert text.replace(b"head|end", b"headend").split(b"||")[:2] == [b"headend"] * 2


def test_a_client_that_hangs_is_dropped() -> None:
    with TcpOutlet(HERE, request=REQUEST, patience_s=0.1) as outlet:
        port = int(outlet.address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            client.sendall(REQUEST)
            assert outlet.wait_for_peer(10)
            sent = [outlet.send(chunk(bytes(1 << 20))) for _ in range(64)]
    assert sent[0]
    assert not sent[-1]


def test_without_a_client_it_says_so() -> None:
    with TcpOutlet(HERE, request=REQUEST) as outlet:
        with pytest.raises(StoppedError, match="nobody came"):
            replay([chunk(b"x")], {"pos": outlet}, wait_s=0.2)
        assert not outlet.send(chunk(b"x"))


@pytest.mark.parametrize("address", ["ipc:///x", "tcp://127.0.0.1", "nonsense"])
def test_bad_addresses_are_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="outlet"):
        TcpOutlet(address, request=REQUEST).__enter__()


def test_an_inlet_reads_what_an_outlet_sends() -> None:
    with TcpOutlet(HERE, request=REQUEST) as outlet:
        inlet = ByteInlet(outlet.address, request=REQUEST)
        inlet.open()
        while not outlet.wait_for_peer(0.05):
            inlet.waiting_on()
        assert outlet.send(chunk(b"data"))
        got = b""
        while got != b"data":
            inlet.waiting_on()
            got += b"".join(bytes(p) for parts in inlet.messages(5) for p in parts)
        inlet.close()
