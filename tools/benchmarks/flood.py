"""The far ends of a measurement, as processes: senders, and bare receiving loops.

``send N`` binds a PUSH socket a receiver, prints the addresses, and for each line
``RECEIVER SCAN`` on stdin sends one scan of N frames, flat out.
``pace N RATE SCAN SUBSCRIBERS [KEYS]`` binds a PUB socket, prints its address, waits
for so many subscribers, and sends N frames at RATE a second; it prints how late the
last was. With a folder of KEYS, ``server.key_secret`` in it, it is a CURVE server.
``scan N RATE`` binds two XPUB sockets, prints where a service finds frames and
positions, waits for a subscriber to each, and sends a whole scan of N bslz4 frames with
its positions at RATE a second; it prints how late the last frame was.
``receive N ADDRESS [SCAN]`` is what a receiver can't beat: pyzmq's loop without a
decoder, with the bare decompression of that scan's frames if one is named. It prints
frames per second after each N.
``stamp N ADDRESS`` prints when each of N messages came, in ns.
"""

import json
import math
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import bitshuffle
import numpy as np
import zmq

from ptystream.wire import native
from ptystream.wire.codecs import Buffer, Encoding
from ptystream.wire.curve import ServerKeys, server_keys
from ptystream.wire.envelope import EncodedFrame, encode_frame
from ptystream.wire.messages import (
    Frame,
    Geometry,
    Message,
    Samples,
    ScanEnd,
    ScanStart,
)

RECEIVERS = ("bare", "decode", "ring")
QUEUED = 64
NAME = "flood"
ROWS = 50
"""Positions to a message."""
PIXEL_M = 10e-9
GEOMETRY = Geometry(1e-10, 256 * 75e-6 * PIXEL_M / 1e-10, (75e-6, 75e-6))
"""An object pixel of 10 nm for 256 detector pixels of 75 um."""
HEADER_BYTES = 12  # before bslz4's blocks
BLOCK = 8192 // 2


class Scan(NamedTuple):
    """What is sent: uint16 patterns of this shape."""

    shape: tuple[int, int]
    encoding: Encoding


SCANS = {
    "raw": Scan((256, 256), "raw"),
    "bslz4": Scan((256, 256), "bslz4"),
    "small": Scan((128, 128), "bslz4"),
    "large": Scan((1030, 1065), "bslz4"),
}


def pattern(shape: tuple[int, int]) -> np.ndarray:
    """Return counts as of a weakly lit detector; bslz4 makes them 14 times smaller."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    radius2 = (y - shape[0] / 2) ** 2 + (x - shape[1] / 2) ** 2
    rate = 30 * np.exp(-radius2 / (2 * 20**2))
    return np.random.default_rng(0).poisson(rate).astype(np.uint16)


def frames(scan: Scan, count: int) -> list[list[Buffer]]:
    """Return the parts of every frame, made before the clock runs."""
    first = encode_frame(Frame("flood", 0, pattern(scan.shape)), scan.encoding)
    return [
        native.encode(replace(first, index=index), seq=index + 1, sent_ns=0)
        for index in range(count)
    ]


def send(count: int) -> None:
    """Send scans as told on stdin, until it closes."""
    made: dict[str, list[list[Buffer]]] = {}
    with zmq.Context() as context:
        sockets = {name: _bound(context, zmq.PUSH) for name in RECEIVERS}
        addresses = {
            name: socket.getsockopt_string(zmq.LAST_ENDPOINT)
            for name, socket in sockets.items()
        }
        print(json.dumps(addresses), flush=True)
        for line in sys.stdin:
            name, scan = line.split()
            if scan not in made:
                made[scan] = frames(SCANS[scan], count)
            for parts in made[scan]:
                sockets[name].send_multipart(parts, copy=False)


def pace(
    count: int, rate_hz: float, scan: str, subscribers: int, keys: Path | None
) -> None:
    """Send a scan with start and end at this rate; the deadlines are absolute."""
    one = frames(SCANS[scan], 1)[0]
    shape, encoding = SCANS[scan]
    first = encode_frame(Frame("flood", 0, pattern(shape)), encoding)
    curve = server_keys(keys / "server.key_secret") if keys else None
    with zmq.Context() as context, _bound(context, zmq.XPUB, curve) as socket:
        print(socket.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
        for _ in range(subscribers):
            socket.recv()
        start = ScanStart("flood", "det", shape, "<u2", count)
        socket.send_multipart(native.encode(start, seq=0, sent_ns=0))
        began_s = time.monotonic()
        for index in range(count):
            parts = native.encode(replace(first, index=index), seq=index + 1, sent_ns=0)
            nap_s = began_s + index / rate_hz - time.monotonic()
            if nap_s > 0:
                time.sleep(nap_s)
            socket.send_multipart(parts, copy=len(one[-1]) < 1 << 16)
        late_s = time.monotonic() - began_s - (count - 1) / rate_hz
        end = ScanEnd("flood", "det", "complete", count)
        socket.send_multipart(native.encode(end, seq=count + 1, sent_ns=0))
        print(late_s, flush=True)
        sys.stdin.read()  # stay: who goes takes what is queued along


def scan(count: int, rate_hz: float) -> None:
    """Send frames of one pattern and a raster's positions; deadlines are absolute."""
    payload = encode_frame(Frame(NAME, 0, pattern(SCANS["bslz4"].shape)), "bslz4")
    with zmq.Context() as context, ExitStack() as stack:
        names = ("detector", "positions")
        sockets = [stack.enter_context(_bound(context, zmq.XPUB)) for _ in names]
        where = [s.getsockopt_string(zmq.LAST_ENDPOINT) for s in sockets]
        urls = [url.replace("tcp", "ptys+sub") for url in where]
        print(json.dumps(dict(zip(names, urls, strict=True))), flush=True)
        for socket in sockets:
            socket.recv()
        detector, encoder = (_Sender(socket) for socket in sockets)
        detector.send(ScanStart(NAME, "det", payload.shape, "<u2", count, GEOMETRY))
        encoder.send(ScanStart(NAME, "pos", frames_expected=count))
        began_s = time.monotonic()
        for index in range(count):
            nap_s = began_s + index / rate_hz - time.monotonic()
            if nap_s > 0:
                time.sleep(nap_s)
            if index % ROWS == 0:
                encoder.send(_positions(index, min(ROWS, count - index), count))
            detector.send(replace(payload, index=index))
        print(time.monotonic() - began_s - (count - 1) / rate_hz, flush=True)
        detector.send(ScanEnd(NAME, "det", "complete", count))
        encoder.send(ScanEnd(NAME, "pos", "complete", count))
        sys.stdin.read()  # stay: who goes takes what is queued along


class _Sender:
    """Numbers the messages of one socket."""

    def __init__(self, socket: zmq.Socket) -> None:
        self._socket, self._seq = socket, 0

    def send(self, message: Message | EncodedFrame) -> None:
        parts = native.encode(message, seq=self._seq, sent_ns=0)
        self._socket.send_multipart(parts, copy=False)
        self._seq += 1


def _positions(first: int, rows: int, count: int) -> Samples:
    """Return where frames of a square raster are, 4 object pixels apart."""
    side = math.isqrt(count) + 1
    number = np.arange(first, first + rows)
    raster = np.stack([number // side, number % side], 1)
    return Samples(NAME, first, 1, raster * (4 * PIXEL_M))


def receive(count: int, address: str, scan: str | None) -> None:
    """Receive for ever; print the rate from the first to the last of each N frames."""
    shape = SCANS[scan].shape if scan else (0, 0)
    decompress = bare_decompression() if scan else None
    with zmq.Context() as context, _connected(context, address) as socket:
        while True:
            began_s = 0.0
            for index in range(count):
                parts = socket.recv_multipart(copy=False)
                began_s = time.monotonic() if index == 0 else began_s
                if decompress is not None:
                    decompress(parts[2].buffer, shape)
            print((count - 1) / (time.monotonic() - began_s), flush=True)


def stamp(count: int, address: str) -> None:
    """Print the arrival times of so many messages, as one line of JSON."""
    with zmq.Context() as context, _connected(context, address) as socket:
        stamps = []
        for _ in range(count):
            socket.recv_multipart(copy=False)
            stamps.append(time.monotonic_ns())
        print(json.dumps(stamps), flush=True)


def bare_decompression() -> Callable[[memoryview, tuple[int, int]], object]:
    """Return the fastest library's own call, as the receiver would choose it."""
    try:
        from dectris.compression import decompress  # pyright: ignore
    except ImportError:
        return lambda payload, shape: bitshuffle.decompress_lz4(
            np.frombuffer(payload, np.uint8)[HEADER_BYTES:],
            shape,
            np.dtype("<u2"),
            BLOCK,
        )
    return lambda payload, _: decompress(payload, "bslz4", elem_size=2)


def _bound(
    context: zmq.Context, kind: int, curve: ServerKeys | None = None
) -> zmq.Socket:
    socket = context.socket(kind)
    if curve is not None:
        curve.apply(socket)
    socket.setsockopt(zmq.SNDHWM, QUEUED if kind == zmq.PUSH else 10_000)
    socket.setsockopt(zmq.LINGER, 0)
    socket.bind_to_random_port("tcp://127.0.0.1")
    return socket


def _connected(context: zmq.Context, address: str) -> zmq.Socket:
    socket = context.socket(zmq.PULL)
    socket.setsockopt(zmq.RCVHWM, QUEUED)
    socket.connect(address)
    return socket


if __name__ == "__main__":
    mode, count, *words = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
    if mode == "send":
        send(count)
    elif mode == "pace":
        keys = Path(words[3]) if len(words) > 3 else None
        pace(count, float(words[0]), words[1], int(words[2]), keys)
    elif mode == "scan":
        scan(count, float(words[0]))
    elif mode == "stamp":
        stamp(count, words[0])
    else:
        receive(count, words[0], words[1] if len(words) > 1 else None)
