"""Connections that say nothing, or half of something, keep nobody else waiting."""

import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from ptystream.publish.client import ControlClient
from ptystream.publish.control import ControlServer

STRANGERS = 150
GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01NULL" + bytes(48)


@pytest.mark.parametrize(
    "said",
    [b"", b"\xff", GREETING[:20], GREETING, b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4000],
    ids=["silence", "a byte", "half a greeting", "a greeting", "HTTP", "noise"],
)
def test_strangers_who_never_finish_their_greeting_hold_nobody_up(said: bytes):
    state = {"run": None, "scan": None, "state": "idle"}
    with ControlServer({}, lambda: state) as server, ExitStack() as stack:
        for address in (
            server.control_address,
            server.status_address,
            server.preview_address,
        ):
            url = urlsplit(address)
            for _ in range(STRANGERS // 3):
                stranger = socket.create_connection((url.hostname, url.port), 5.0)
                stack.enter_context(stranger)
                stranger.sendall(said)
        with ControlClient(server.control_address) as client:
            assert client.ask("ping") is not None
        assert server.alive()
        assert server.stats().answered == 1
