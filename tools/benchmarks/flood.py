"""Both ends of a flood of frames, as processes: a sender, and a bare receiving loop.

``python -m tools.benchmarks.flood send N`` binds a PUSH socket a receiver, prints the
addresses, and for each line ``RECEIVER ENCODING`` on stdin sends one scan.
``python -m tools.benchmarks.flood receive N ADDRESS [decode]`` is what a receiver
can't beat: pyzmq's loop without a decoder, with bslz4's bare decompression if asked
for. It prints frames per second after each N.
"""

import json
import sys
import time
from dataclasses import replace

import bitshuffle
import numpy as np
import zmq

from ptystream.wire import native
from ptystream.wire.codecs import Buffer, Encoding
from ptystream.wire.envelope import encode_frame
from ptystream.wire.messages import Frame

SIDE = 256
RECEIVERS = ("bare", "decode", "ring")
QUEUED = 64
HEADER_BYTES = 12  # before bslz4's blocks
BLOCK = 8192 // 2


def pattern() -> np.ndarray:
    """Return counts as of a weakly lit detector; bslz4 makes them 8 times smaller."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    rate = 30 * np.exp(-(y**2 + x**2) / (2 * 20**2))
    return np.random.default_rng(0).poisson(rate).astype(np.uint16)


def scan(frames: int, encoding: Encoding) -> list[list[Buffer]]:
    """Return the parts of every frame, made before the clock runs."""
    first = encode_frame(Frame("flood", 0, pattern()), encoding)
    return [
        native.encode(replace(first, index=index), seq=index, sent_ns=0)
        for index in range(frames)
    ]


def send(frames: int) -> None:
    """Send scans as told on stdin, until it closes."""
    scans = {"raw": scan(frames, "raw"), "bslz4": scan(frames, "bslz4")}
    with zmq.Context() as context:
        sockets = {name: context.socket(zmq.PUSH) for name in RECEIVERS}
        for socket in sockets.values():
            socket.setsockopt(zmq.SNDHWM, QUEUED)
            socket.setsockopt(zmq.LINGER, 0)
            socket.bind_to_random_port("tcp://127.0.0.1")
        addresses = {
            name: socket.getsockopt_string(zmq.LAST_ENDPOINT)
            for name, socket in sockets.items()
        }
        print(json.dumps(addresses), flush=True)
        for line in sys.stdin:
            name, encoding = line.split()
            for parts in scans[encoding]:
                sockets[name].send_multipart(parts, copy=False)


def receive(frames: int, address: str, decode: bool) -> None:
    """Receive for ever; print the rate from the first to the last of each N frames."""
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        socket.setsockopt(zmq.RCVHWM, QUEUED)
        socket.connect(address)
        while True:
            began_s = 0.0
            for index in range(frames):
                parts = socket.recv_multipart(copy=False)
                began_s = time.monotonic() if index == 0 else began_s
                if decode:
                    blocks = np.frombuffer(parts[2].buffer, np.uint8)[HEADER_BYTES:]
                    bitshuffle.decompress_lz4(
                        blocks, (SIDE, SIDE), np.dtype("<u2"), BLOCK
                    )
            print((frames - 1) / (time.monotonic() - began_s), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(int(sys.argv[2]))
    else:
        receive(int(sys.argv[2]), sys.argv[3], sys.argv[4:] == ["decode"])
