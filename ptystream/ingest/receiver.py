"""The receiver process: from a socket, decoded, straight into the ring.

It runs apart so that decompression never competes with training for the interpreter.
``python -m ptystream.ingest.receiver`` reads its settings as one line of JSON from
stdin, and ends on SIGTERM or once stdin closes, which it does when the parent dies.
"""

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable

import msgspec
import zmq

from ptystream.buffers.ring import Ring
from ptystream.errors import DecodeError, PtystreamError
from ptystream.ingest.endpoint import Endpoint, parse_endpoint
from ptystream.ingest.preprocess import Preprocess
from ptystream.ingest.preprocess_options import Crop, PreprocessOptions
from ptystream.ingest.records import COUNTERS, write_frame, write_message
from ptystream.ingest.subscription import Subscription
from ptystream.wire.columns import Columns
from ptystream.wire.curve import ClientKeys
from ptystream.wire.envelope import EncodedFrame, Limits, UnknownKind
from ptystream.wire.messages import Calibration, Message, ScanEnd, ScanStart

log = logging.getLogger("ptystream.receiver")

_POLL_MS = 200
_BATCH = 64  # messages between two looks at stdin and the stop flag


class ReceiverSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the parent tells its receiver process."""

    endpoint: str
    ring_fd: int
    wake_fd: int
    parent_pid: int
    max_frame_bytes: int
    streams: list[str]
    crop: Crop | None = None
    preprocess: PreprocessOptions = PreprocessOptions()
    channel: str | None = None
    first_frame: int = 0
    curve: ClientKeys | None = None


class Receiver:
    """Moves messages from one subscription into the ring, and counts."""

    def __init__(
        self,
        subscription: Subscription,
        ring: Ring,
        wake: Callable[[], None],
        preprocess: Preprocess,
    ) -> None:
        self._subscription = subscription
        self._ring = ring
        self._wake = wake
        self._preprocess = preprocess

    def step(self) -> None:
        """Take what has arrived, at most 64 messages; never wait."""
        ring, subscription = self._ring, self._subscription
        wrote = False
        for envelope in subscription.messages(_BATCH):
            ring.count("messages")
            ring.set("last_message_ns", time.monotonic_ns())
            self._report()  # a loss is known before what came after it is seen
            wrote |= self._take(envelope.message)
        for message in self._preprocess.tick(time.monotonic()):
            wrote |= self._put(message)
        if wrote:
            self._wake()  # once: it is a system call
        self._report()
        ring.set("connected", subscription.connected)
        ring.set("disconnects", subscription.disconnects)

    def _report(self) -> None:
        self._ring.set("lost_on_wire", self._subscription.lost_on_wire)
        self._ring.set("decode_errors", self._subscription.decode_errors)

    def _take(
        self, message: Message | EncodedFrame | Columns | UnknownKind | Calibration
    ) -> bool:
        """Handle a message; True if the reader has something new."""
        if isinstance(message, UnknownKind | Columns):
            self._ring.count("unknown_kinds")
            return False
        ready = self._preprocess.take(message, time.monotonic())
        written = [self._put(m) for m in ready]
        return any(written)

    def _put(self, message: Message | EncodedFrame) -> bool:
        """Write a message and count it; True if it was written."""
        try:
            written = self._write(message)
        except DecodeError as e:
            self._subscription.count_error(e)
            return False
        if not written:
            self._ring.count("ring_full")
        elif isinstance(message, EncodedFrame):
            self._ring.count("frames")
            self._ring.count("bytes", message.nbytes)
        return written

    def _write(self, message: Message | EncodedFrame) -> bool:
        if isinstance(message, EncodedFrame):
            return write_frame(self._ring, message, self._preprocess)
        return write_message(self._ring, message, urgent=_urgent(message))


def _urgent(message: Message) -> bool:
    """Tell what comes only once: the rest must not use up the ring's reserve."""
    if isinstance(message, ScanStart):
        return not message.again
    return isinstance(message, ScanEnd)


def run(settings: ReceiverSettings, stopped: Callable[[], bool]) -> None:
    """Receive until told to stop, or until the parent is gone."""
    endpoint: Endpoint = parse_endpoint(settings.endpoint)
    preprocess = Preprocess(settings.preprocess, settings.crop)
    preprocess.read_files()
    limits = Limits(
        settings.max_frame_bytes,
        channel=settings.channel,
        first_frame=settings.first_frame,
    )
    subscription = Subscription(
        endpoint, streams=settings.streams, limits=limits, curve=settings.curve
    )
    with Ring.attach(settings.ring_fd, counters=COUNTERS) as ring, subscription:
        wake = _waker(settings.wake_fd)
        receiver = Receiver(subscription, ring, wake, preprocess)
        poller = zmq.Poller()
        poller.register(subscription.socket, zmq.POLLIN)
        poller.register(sys.stdin.fileno(), zmq.POLLIN)
        ring.set("ready", 1)
        wake()
        while not stopped() and os.getppid() == settings.parent_pid:
            if sys.stdin.fileno() in dict(poller.poll(_POLL_MS)):
                return
            receiver.step()


def _waker(fd: int) -> Callable[[], None]:
    os.set_blocking(fd, False)

    def wake() -> None:
        # A full pipe wakes the reader as well as one more byte would.
        with contextlib.suppress(BlockingIOError):
            os.write(fd, b"\0")

    return wake


def main() -> int:
    """Run as a child process; return the exit code."""
    stops: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stops.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    logging.basicConfig(stream=sys.stderr, format="%(name)s: %(message)s")
    line = sys.stdin.buffer.readline()
    try:
        run(msgspec.json.decode(line, type=ReceiverSettings), lambda: bool(stops))
    except BrokenPipeError:
        return 0  # the parent is gone
    except (PtystreamError, msgspec.MsgspecError) as e:
        log.error("%s", e)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
