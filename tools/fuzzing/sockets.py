"""The service's control socket, over loopback."""

from collections.abc import Callable
from typing import Any

import msgspec
import zmq

from ptystream.errors import ConfigError
from ptystream.publish.control import ControlServer
from tools.fuzzing.framing import split
from tools.fuzzing.oracle import expect

_PATIENCE_MS = 5000


def _refuse(args: dict[str, Any]) -> None:
    raise ConfigError(f"no scan is open, and {len(args)} words don't help")


def control() -> Callable[[bytes], None]:
    """Return a check: each request gets one answer, and the server lives on."""
    commands = {"stop": dict, "refuse": _refuse}
    status = {"run": "r", "scan": None, "state": "idle"}
    server = ControlServer(commands, lambda: status)
    server.__enter__()  # as long as the process: a fuzzer ends without a word
    client = zmq.Context.instance().socket(zmq.DEALER)
    client.connect(server.control_address)

    def check(data: bytes) -> None:
        messages = split(data)
        for parts in messages:
            client.send_multipart(parts)
        for _ in messages:
            expect(bool(client.poll(_PATIENCE_MS)), "no answer")
            answer = msgspec.json.decode(client.recv_multipart()[-1])
            expect(isinstance(answer["ok"], bool), "no verdict")
        expect(server.alive(), f"the server died: {server.error}")

    return check
