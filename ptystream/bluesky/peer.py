"""Whether the process at a socket's other end is there, however busy it is.

ZeroMQ's own heartbeats are answered by the peer's I/O thread, which needs no turn of
its interpreter: on a machine of six busy processes a service of low priority said
nothing for 3.2 s, and was well. Time is counted in turns of our own event loop, so that
a loop held up by something else takes nobody for dead.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import zmq
import zmq.asyncio
from zmq.utils.monitor import recv_monitor_message

from ptystream.wire.curve import REFUSED

T = TypeVar("T")

TICK_S = 0.1
EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | REFUSED


class Peer:
    """Watches a socket's connection, from before it is connected.

    Args:
        socket: of a context that the caller destroys.
        heartbeat_s: a peer whose connection is broken for so long is gone. One that
            vanishes without a word is noticed half as much later.
        silent_s: one that is there but says nothing for so long hangs.
    """

    def __init__(
        self, socket: zmq.asyncio.Socket, heartbeat_s: float, silent_s: float
    ) -> None:
        self._heartbeat_s, self._silent_s = heartbeat_s, silent_s
        self.there = self.refuses = False
        every_ms = max(100, int(250 * heartbeat_s))
        socket.setsockopt(zmq.HEARTBEAT_IVL, every_ms)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, every_ms)
        self._events = socket.get_monitor_socket(EVENTS)

    async def watch(self) -> None:
        """Follow the connection; ends only by being cancelled."""
        while True:
            event = await recv_monitor_message(self._events)
            self.there = event["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
            if event["event"] != zmq.EVENT_DISCONNECTED:
                self.refuses = not self.there

    async def said(self, wanted: Awaitable[T], timeout_s: float | None = None) -> T:
        """Return what the peer is to send.

        Raises:
            TimeoutError: it is gone, or hangs; or nothing came for ``timeout_s``.
        """
        task = asyncio.ensure_future(wanted)
        waited_s = apart_s = 0.0
        try:
            while not self._in_vain(waited_s, apart_s, timeout_s):
                if (await asyncio.wait((task,), timeout=TICK_S))[0]:
                    return task.result()
                waited_s += TICK_S
                apart_s = 0.0 if self.there else apart_s + TICK_S
        finally:
            task.cancel()
        raise TimeoutError(self.why(timeout_s))

    def why(self, timeout_s: float | None = None) -> str:
        """Return what a wait in vain says of the peer."""
        if self.refuses:
            return "which refuses us: are the CURVE keys right?"
        if timeout_s is not None:
            return f"for {timeout_s:g} s"
        if self.there:
            return f"for {self._silent_s:g} s: it is there, but hangs"
        return f"for {self._heartbeat_s:g} s: it is gone"

    def _in_vain(
        self, waited_s: float, apart_s: float, timeout_s: float | None
    ) -> bool:
        # Half a tick: sums of 0.1 s may end below what they are compared with.
        waited_s, apart_s = waited_s + TICK_S / 2, apart_s + TICK_S / 2
        if timeout_s is not None:
            return waited_s >= timeout_s
        return waited_s >= self._silent_s or apart_s >= self._heartbeat_s
