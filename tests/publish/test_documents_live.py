import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import event_model
import orjson
import pytest
import zmq

from ptystream.errors import ConfigError, StoppedError
from ptystream.publish.documents_live import DocumentSink
from ptystream.publish.runner import SinkThread
from ptystream.publish.sink import FrameCounts, RunEnd

FRAMES = FrameCounts(received=3)
END = RunEnd("complete", "converged", 1.0)
LISTENER = Path(__file__).with_name("document_listener.py")


@contextlib.contextmanager
def bus_end() -> Iterator[tuple[zmq.Socket[bytes], str]]:
    """What a proxy's in-side is: a SUB that binds."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        yield socket, f"127.0.0.1:{port}"


def received(socket) -> tuple[bytes, str, dict]:
    assert socket.poll(10_000), "no document"
    prefix, name, document = socket.recv().split(b" ", 2)
    return prefix, name.decode(), orjson.loads(document)


def free_addresses(count: int) -> list[str]:
    """Ports that were free a moment ago; the proxy's command line can't report one."""
    with zmq.Context() as context:
        sockets = [context.socket(zmq.PUB) for _ in range(count)]
        ports = [s.bind_to_random_port("tcp://127.0.0.1") for s in sockets]
        for socket in sockets:
            socket.close(linger=0)
    return [f"127.0.0.1:{port}" for port in ports]


@contextlib.contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()


def test_the_wire_is_blueskys_and_what_is_not_finite_is_null(info, snapshot):
    with bus_end() as (socket, address), SinkThread(DocumentSink(address)) as thread:
        thread.start(info())
        documents = [received(socket)]
        thread.update(snapshot(), FRAMES)
        documents += [received(socket), received(socket)]
        thread.stop(None, FRAMES, END)
        documents.append(received(socket))
    assert {prefix for prefix, _, _ in documents} == {b"an"}
    names = [name for _, name, _ in documents]
    assert names == ["start", "descriptor", "event", "stop"]
    data = documents[2][2]["data"]
    assert data["flat_error"] is None
    assert data["frames_expected"] is None
    assert data["loss"] == 0.5


def test_nobody_listening_is_an_error_not_silence(info):
    (address,) = free_addresses(1)
    with DocumentSink(address, settle_s=0.05) as sink:
        with pytest.raises(StoppedError, match="no Bluesky proxy"):
            sink.start(info())
        sink.stop(None, FRAMES, END)


def test_a_proxy_that_comes_late_still_gets_a_whole_run(info, snapshot):
    (address,) = free_addresses(1)
    with SinkThread(DocumentSink(address, settle_s=0.2)) as thread:
        thread.start(info())
        while not thread.stats().failures:
            time.sleep(0.01)
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.SUBSCRIBE, b"")
            socket.bind(f"tcp://{address}")
            while not socket.poll(50):
                thread.update(snapshot(), FRAMES)
            thread.stop(None, FRAMES, END)
            names = [received(socket)[1]]
            while names[-1] != "stop":
                names.append(received(socket)[1])
    assert names[:3] == ["start", "descriptor", "event"]


def test_closing_is_bounded_when_the_proxy_died_with_documents_unsent(info, snapshot):
    with bus_end() as (socket, address):
        thread = SinkThread(DocumentSink(address)).__enter__()
        thread.start(info())
        received(socket)
    thread.update(snapshot(), FRAMES)
    began_s = time.monotonic()
    assert thread.close(10)
    assert time.monotonic() - began_s < 5
    assert thread.stats().failures == 0


def test_a_prefix_with_a_space_is_refused():
    with pytest.raises(ConfigError, match="space"):
        DocumentSink("127.0.0.1:1", prefix=b"a n")


def whole_run(documents: list) -> list:
    """Return the first run that was received from its start, if it is complete."""
    names = [name for name, _ in documents]
    first = names.index("start") if "start" in names else len(names)
    return documents[first : first + 4] if len(names) >= first + 4 else []


@pytest.mark.system
def test_through_a_real_proxy_to_a_real_dispatcher(info, snapshot):
    inward, outward = free_addresses(2)
    proxy = (
        "-c",
        "from bluesky.commandline.zmq_proxy import main; main()",
        "--in-address",
        inward,
        "--out-address",
        outward,
    )
    lines: queue.Queue[str] = queue.Queue(1000)
    with (
        process(*proxy),
        process(str(LISTENER), outward, "an") as listener,
        SinkThread(DocumentSink(inward, settle_s=30)) as thread,
    ):
        assert listener.stdout is not None
        stdout = listener.stdout
        reader = threading.Thread(target=lambda: [lines.put(x) for x in stdout])
        reader.start()
        assert json.loads(lines.get(timeout=30))[0] == "ready"
        # A dispatcher may miss what comes before its subscription: repeat the run.
        documents, number = [], 0
        deadline_s = time.monotonic() + 30
        while [n for n, _ in documents[-1:]] != ["stop"]:
            assert time.monotonic() < deadline_s
            number += 1
            thread.start(info(f"run-{number}"))
            thread.stop(snapshot(), FRAMES, END)
            with contextlib.suppress(queue.Empty):
                while True:
                    documents.append(json.loads(lines.get(timeout=0.5)))
        listener.terminate()
        reader.join(10)
    run = whole_run(documents)
    assert [name for name, _ in run] == ["start", "descriptor", "event", "stop"]
    for name, document in run:
        kind = event_model.DocumentNames[name]
        event_model.schema_validators[kind].validate(document)
    assert run[0][1]["original_run_uid"] == "scan-1"
    assert run[2][1]["data"]["held_out_error"] == 0.25
