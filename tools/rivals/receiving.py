"""The far ends of the receivers' race, as processes.

``send FRAMES SIDE``: two PUSH sockets, one a competitor; it prints their addresses and,
for each name read from stdin, sends that one a DECTRIS series, flat out.
``ours ADDRESS FRAMES``: our receiver process and a reader that empties its ring.
"""

import json
import os
import select
import sys
import time
from pathlib import Path

import numpy as np
import zmq

from ptystream.errors import StoppedError
from ptystream.ingest.endpoint import parse_endpoint
from ptystream.ingest.process import ReceiverProcess
from ptystream.recon.heap import keep_freed_memory
from ptystream.wire.codecs import Buffer
from ptystream.wire.dectris_encode import DectrisEncoder
from ptystream.wire.messages import Frame, ScanEnd, ScanStart

NAMES = ("ours", "theirs")
PATTERNS = 16
"""Different frames; they are sent again and again."""
QUEUED = 64
STACK = 16
"""Frames that both readers take at once."""
PATIENCE_S = 60.0


def send(count: int, side: int) -> None:
    """Send series as told on stdin, until it closes."""
    made = series(count, side)
    with zmq.Context() as context:
        sockets = {}
        for name in NAMES:
            sockets[name] = socket = context.socket(zmq.PUSH)
            socket.setsockopt(zmq.SNDHWM, QUEUED)
            socket.setsockopt(zmq.LINGER, 0)
            socket.bind_to_random_port("tcp://127.0.0.1")
        addresses = {
            name: socket.getsockopt_string(zmq.LAST_ENDPOINT)
            for name, socket in sockets.items()
        }
        print(json.dumps(addresses), flush=True)
        for line in sys.stdin:
            for parts in made:
                sockets[line.strip()].send_multipart(parts, copy=False)
        context.destroy(linger=0)


def series(count: int, side: int) -> list[list[Buffer]]:
    """Return a series' messages in bslz4: frames as of a weakly lit detector."""
    encoder, rng = DectrisEncoder(), np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] - side / 2
    rate = 30 * np.exp(-(y**2 + x**2) / (2 * (side / 12) ** 2))
    counts = rng.poisson(rate, (PATTERNS, side, side)).astype("<u2")
    start = ScanStart("race", "det", (side, side), "<u2", count, dwell_s=1e-3)
    made = [list(encoder.encode(start, "bslz4")[:2])]
    for index in range(count):
        frame = Frame(
            "race", index, counts[index % PATTERNS], index * 1000, index * 1000 + 900
        )
        made.append(list(encoder.encode(frame, "bslz4")))
    made.append(list(encoder.encode(ScanEnd("race", "det", "complete"), "bslz4")))
    return made


def ours(address: str, count: int) -> None:
    """Receive one series; print frames, wall seconds, processor seconds of both."""
    keep_freed_memory()  # as the service does
    endpoint = parse_endpoint(address.replace("tcp", "dectris+pull", 1))
    with ReceiverProcess(endpoint) as receiver:
        print("ready", flush=True)
        before_s = time.process_time() + _processor_s(receiver.pid)
        seen, began_s, deadline_s = 0, 0.0, time.monotonic() + PATIENCE_S
        while seen < count:
            messages = receiver.drain(STACK)
            began_s = began_s or (time.monotonic() if messages else 0.0)
            seen += sum(isinstance(message, Frame) for message in messages)
            if any(isinstance(message, ScanEnd) for message in messages):
                break
            if time.monotonic() > deadline_s:
                raise StoppedError(f"{seen} of {count} frames: {receiver.stats()}")
            if not messages:
                select.select([receiver], [], [], 0.5)
        spent = {
            "cpu_s": time.process_time() + _processor_s(receiver.pid) - before_s,
            "wall_s": time.monotonic() - began_s,
        }
        print(json.dumps({"frames": seen, **spent}), flush=True)


def _processor_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(int(sys.argv[2]), int(sys.argv[3]))
    else:
        ours(sys.argv[2], int(sys.argv[3]))
