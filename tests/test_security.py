"""What ``deploy/SECURITY.md`` promises: no code comes in by a socket or a file."""

import ast
import asyncio
import contextlib
import os
import pickle
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from prometheus_client import CollectorRegistry

from ptystream.bluesky.link import ServiceLink
from ptystream.bluesky.refine import newest_picture
from ptystream.commands.watch import _picture, _state
from ptystream.dashboard.feed import Addresses, Feed
from ptystream.errors import PtystreamError
from ptystream.ingest.endpoint import parse_endpoint
from ptystream.ingest.panda_client import PandaClient
from ptystream.ingest.preprocess_files import read_array
from ptystream.ingest.protocols import PROTOCOLS
from ptystream.ingest.subscription import Subscription
from ptystream.publish.client import ControlClient
from ptystream.publish.control import ControlServer
from ptystream.publish.files import read_result
from ptystream.sim.pictures import picture
from ptystream.status import StatusServer
from ptystream.tape.cxi import CxiScan
from ptystream.tape.log import TapeReader
from ptystream.wire.envelope import Limits
from tests.dangers import dangers

ROOT = Path(__file__).parents[1]
SENT = {"sub": zmq.PUB, "pull": zmq.PUSH, "req": zmq.REP}


class Evil:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self):
        return os.mkdir, (self._path,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What is there once somebody unpickled."""
    return tmp_path / "unpickled"


@pytest.fixture
def evil(mark: Path) -> Iterator[bytes]:
    """A pickle that leaves a mark; none may be there when the test is over."""
    payload = pickle.dumps(Evil(mark))
    pickle.loads(payload)
    assert mark.is_dir()
    mark.rmdir()
    yield payload
    assert not mark.exists(), "somebody unpickled what came from outside"


def test_nothing_unpickles_or_runs_what_comes_from_outside():
    files = sorted((ROOT / "ptystream").rglob("*.py"))
    found = {str(path): dangers(path.read_text(encoding="utf-8")) for path in files}
    assert len(found) > 100
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import os, pickle as p",
        "from pickle import loads",
        "from torch import multiprocessing",
        "import multiprocessing.shared_memory",
        "eval(text)",
        "exec(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=allowed)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text)",
        "socket.recv_pyobj()",
        "pandas.read_pickle(path)",
    ],
)
def test_each_of_these_would_be_found(line):
    assert dangers(f"def f():\n    {line}\n")


@pytest.mark.parametrize(
    "line", ["model.eval()", "re.compile(x)", "np.load(p)", "yaml.safe_load(t)"]
)
def test_what_only_looks_like_it_is_not(line):
    assert dangers(line) == []


@contextlib.contextmanager
def said_by(kind: int, *messages: list[bytes]) -> Iterator[str]:
    """Send messages again and again, to whoever connects; yield where."""
    stop = threading.Event()
    with zmq.Context() as context, context.socket(kind) as sock:
        sock.setsockopt(zmq.LINGER, 0)
        sock.setsockopt(zmq.SNDTIMEO, 100)
        address = f"tcp://127.0.0.1:{sock.bind_to_random_port('tcp://127.0.0.1')}"

        def say() -> None:
            while not stop.wait(0.01):
                for parts in messages:
                    _send(sock, kind, parts)

        thread = threading.Thread(target=say)
        thread.start()
        try:
            yield address
        finally:
            stop.set()
            thread.join()


def _send(sock: zmq.Socket, kind: int, parts: list[bytes]) -> None:
    if kind in (zmq.REP, zmq.ROUTER):
        if not sock.poll(100):
            return
        asked = sock.recv_multipart()
        parts = [*asked[:-1], *parts] if kind == zmq.ROUTER else parts
    with contextlib.suppress(zmq.Again):
        sock.send_multipart(parts)


@pytest.mark.parametrize(
    ("protocol", "pattern"),
    [(n, p) for n, wire in PROTOCOLS.items() for p in wire.patterns if p != "tcp"],
)
def test_a_pickle_on_every_wire_is_counted_and_nothing_more(evil, protocol, pattern):
    wire = PROTOCOLS[protocol]
    streams = wire.streams
    topics = wire.decoder(Limits()).topics(streams) or [b""]
    messages = [
        message
        for topic in topics
        for message in ([topic + evil], [topic, evil], [topic, evil, evil], [evil])
    ]
    with said_by(SENT[pattern], *messages) as address:
        endpoint = parse_endpoint(address.replace("tcp", f"{protocol}+{pattern}"))
        with Subscription(endpoint, streams=streams, limits=Limits()) as subscription:
            got, deadline_s = [], time.monotonic() + 20
            while not subscription.decode_errors and time.monotonic() < deadline_s:
                subscription.socket.poll(100)
                got += subscription.messages(100)
            assert subscription.decode_errors
    assert got == []


def test_a_pickle_from_a_pandabox_ends_the_connection_and_nothing_more(evil):
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = parse_endpoint(f"panda://127.0.0.1:{server.getsockname()[1]}")
        with PandaClient(endpoint, limits=Limits()) as client:
            box, _ = server.accept()
            with box:
                deadline_s = time.monotonic() + 20
                box.settimeout(0.05)
                while not _asked(box) and time.monotonic() < deadline_s:
                    assert list(client.messages(10)) == []
                box.sendall(b"OK\n" + evil + b"\n" + evil)
                while not client.decode_errors and time.monotonic() < deadline_s:
                    assert list(client.messages(10)) == []
                assert client.decode_errors


def _asked(box: socket.socket) -> bool:
    try:
        return bool(box.recv(1000))
    except TimeoutError:
        return False


def test_a_pickle_on_the_services_own_sockets_is_refused(evil):
    with (
        ControlServer({}, lambda: {"state": "idle"}, heartbeat_s=0.1) as server,
        zmq.Context() as context,
    ):
        with context.socket(zmq.DEALER) as asking:
            asking.connect(server.control_address)
            for message in ([evil], [b"", evil], [evil, evil]):
                asking.send_multipart(message)
                assert asking.poll(10_000)
                assert b'"ok":false' in asking.recv_multipart()[-1]
        for address in (server.status_address, server.preview_address):
            with context.socket(zmq.XSUB) as subscribing:
                subscribing.connect(address)
                subscribing.send(b"\x01" + evil)
                subscribing.send(evil)
        with ControlClient(server.control_address, 10) as client:
            assert client.ask("ping")["ok"]
        assert server.alive()


def test_a_pickle_by_http_is_no_request(evil):
    with StatusServer(CollectorRegistry(), dict, dict) as server:
        request = urllib.request.Request(server.address + "/metrics", evil)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        refused.value.close()
        assert refused.value.code == 501


def test_a_pickle_from_a_false_service_is_not_unpickled(evil):
    """Whoever connects reads what any publisher at that address says."""
    with said_by(zmq.PUB, [evil], [evil, evil]) as address:
        with pytest.raises(PtystreamError):
            asyncio.run(newest_picture(address))
        with pytest.raises(PtystreamError):
            asyncio.run(ServiceLink(address, address).connect(0.5))
        with Feed(Addresses(address, address, address)) as feed:
            deadline_s = time.monotonic() + 20
            while feed.heard().ignored < 4 and time.monotonic() < deadline_s:
                time.sleep(0.02)
            assert feed.heard().ignored >= 4
    with (
        said_by(zmq.ROUTER, [evil]) as address,
        ControlClient(address, 10) as client,
        pytest.raises(PtystreamError),
    ):
        client.ask("ping")
    assert _state([evil]) is None
    assert _picture([evil, evil]) is None


READERS: dict[str, Callable[[Path], Any]] = {
    "result.h5": read_result,
    "scan.cxi": lambda path: CxiScan(path).__enter__(),
    "scan.tape": lambda path: TapeReader(path).__enter__(),
    "dark.npy": lambda path: read_array(str(path), "dark"),
    "picture.npy": lambda path: picture(str(path), (8, 8)),
}


@pytest.mark.parametrize("name", READERS)
def test_a_pickle_in_place_of_a_file_is_refused(evil, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(evil)
    with pytest.raises((PtystreamError, OSError)):
        READERS[name](path)


TOLD = (ROOT / "deploy/SECURITY.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TOLD)


def test_the_page_names_a_test_for_each_threat():
    rows = [line for line in TOLD.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    without = [row for row in rows if not re.search(r"`tests/[\w/]+\.py::", row)]
    assert without == []


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_test_that_the_page_names_is_there(file, name):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
