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


@contextlib.contextmanager
def bound(context, address) -> Iterator[zmq.Socket[bytes]]:
    """The same on an address that is known; unbound when it is left."""
    with context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.bind(f"tcp://{address}")
        yield socket


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
    while not thread.stats().failures:
        thread.update(snapshot(), FRAMES)
        time.sleep(0.01)
    began_s = time.monotonic()
    assert thread.close(10)
    assert time.monotonic() - began_s < 5


def test_a_proxy_that_goes_loses_events_but_no_frame_of_the_run(info, snapshot):
    (address,) = free_addresses(1)
    sink = DocumentSink(address, settle_s=0.05, rejoin_s=0.0)
    with sink, zmq.Context() as context:
        with bound(context, address) as socket:
            while not socket.poll(20):
                with contextlib.suppress(StoppedError):
                    sink.start(info())
            assert received(socket)[1] == "start"
        assert sink._opened().poll(5000), "the proxy's end went unnoticed"
        for _ in range(3):
            with pytest.raises(StoppedError, match="no Bluesky proxy"):
                sink.update(snapshot(), FRAMES)
        assert sink.lost == 3
        with bound(context, address) as socket:
            while not socket.poll(20):
                with contextlib.suppress(StoppedError):
                    sink.update(snapshot(), FRAMES)
            lost = sink.lost
            assert received(socket)[1] == "descriptor"
            assert received(socket)[2]["seq_num"] == lost + 1
        assert sink._opened().poll(5000), "the proxy's end went unnoticed"
        with pytest.raises(StoppedError):
            sink.stop(None, FRAMES, END)
        with bound(context, address) as socket:
            while not socket.poll(20):
                with contextlib.suppress(StoppedError):
                    sink.start(info("run-2"))
            stop, start = received(socket), received(socket)
    assert (stop[1], stop[2]["run_start"]) == ("stop", "run-1")
    assert (start[1], start[2]["uid"]) == ("start", "run-2")


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


@pytest.mark.system
def test_a_proxy_killed_and_restarted_mid_run(info, snapshot):
    inward, outward = free_addresses(2)
    proxy = [
        "-c",
        "from bluesky.commandline.zmq_proxy import main; main()",
        *("--in-address", inward, "--out-address", outward),
    ]
    lines: queue.Queue[str] = queue.Queue(10_000)
    heard: list[tuple[str, dict]] = []

    def seen_step(step: int) -> bool:
        with contextlib.suppress(queue.Empty):
            while True:
                heard.append(json.loads(lines.get(timeout=0.05)))
        events = [d["data"]["step"] for name, d in heard if name == "event"]
        return step in events

    def until_seen(step: int) -> None:
        deadline_s = time.monotonic() + 30
        while not seen_step(step):
            assert time.monotonic() < deadline_s, f"step {step} never came"
            thread.update(snapshot(step=step), FRAMES)

    with (
        process(str(LISTENER), outward, "an") as listener,
        SinkThread(DocumentSink(inward, settle_s=30)) as thread,
    ):
        assert listener.stdout is not None
        stdout = listener.stdout
        reader = threading.Thread(target=lambda: [lines.put(x) for x in stdout])
        reader.start()
        with process(*proxy) as first:
            assert json.loads(lines.get(timeout=30))[0] == "ready"
            thread.start(info())
            until_seen(1)
            first.kill()
            first.wait()
        failures = thread.stats().failures
        while thread.stats().failures < failures + 3:
            began_s = time.monotonic()
            thread.update(snapshot(step=2), FRAMES)
            assert time.monotonic() - began_s < 0.5
            time.sleep(0.01)
        with process(*proxy):
            until_seen(3)
            thread.stop(snapshot(step=4), FRAMES, END)
            deadline_s = time.monotonic() + 10
            while heard[-1][0] != "stop":
                assert time.monotonic() < deadline_s
                seen_step(4)
        listener.terminate()
        reader.join(10)
    numbers = [d["seq_num"] for name, d in heard if name == "event"]
    missing = numbers[-1] - len(numbers)
    assert 3 <= missing
    assert heard[-1][1]["num_events"]["recon"] == numbers[-1]
