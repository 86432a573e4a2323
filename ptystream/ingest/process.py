"""The parent's side of the receiver process."""

import contextlib
import logging
import os
import subprocess
import sys
import time
from dataclasses import dataclass, fields
from typing import Self

import msgspec

from ptystream.buffers.ring import Ring
from ptystream.errors import StoppedError
from ptystream.ingest.endpoint import Endpoint
from ptystream.ingest.preprocess import Preprocess
from ptystream.ingest.preprocess_options import Crop, PreprocessOptions
from ptystream.ingest.receiver import ReceiverSettings
from ptystream.ingest.records import COUNTERS, read_record
from ptystream.wire.curve import ClientKeys
from ptystream.wire.messages import Message

log = logging.getLogger(__name__)

_RESERVE_BYTES = 256 << 10  # at least two starts of 64 KiB, wherever the ring wraps
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class ReceiverStats:
    """What the receiver process has seen since it began.

    ``frames`` (and their ``bytes``) went into the ring; ``ring_full`` messages didn't
    fit. ``last_message_ns`` is on the monotonic clock, 0 before the first message.
    """

    connected: bool
    disconnects: int
    messages: int
    frames: int
    bytes: int
    lost_on_wire: int
    decode_errors: int
    unknown_kinds: int
    ring_full: int
    last_message_ns: int
    ring_used_bytes: int
    ring_bytes: int


class ReceiverProcess:
    """A child process that receives and decodes one endpoint; for one thread.

    When the ring is full a frame is dropped and counted; a scan's start and end use
    a reserve kept for them. ``crop`` is in detector pixels, once turned; ``channel``
    is the one to take of a detector with several, none for its first; ``first_frame``
    the number that such a wire as areaDetector's begins with.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        ring_bytes: int = 256 << 20,
        max_frame_bytes: int = 8 << 20,
        crop: Crop | None = None,
        preprocess: PreprocessOptions | None = None,
        streams: tuple[str, ...] = ("det",),
        channel: str | None = None,
        first_frame: int = 0,
        curve: ClientKeys | None = None,
        start_timeout_s: float = 30.0,
    ) -> None:
        if ring_bytes < _RESERVE_BYTES + 2 * max_frame_bytes:
            raise ValueError(
                f"ring of {ring_bytes} bytes, frames of up to {max_frame_bytes}: "
                f"expected room for two frames and {_RESERVE_BYTES} bytes"
            )
        self._endpoint = endpoint
        self._ring_bytes = ring_bytes
        self._max_frame_bytes = max_frame_bytes
        self._crop = crop
        self._preprocess = preprocess or PreprocessOptions()
        self._streams = streams
        self._channel = channel
        self._first_frame = first_frame
        self._curve = curve
        self._start_timeout_s = start_timeout_s

    def __enter__(self) -> Self:
        """Start the process.

        Raises:
            ConfigError: a file of dark, flat or mask can't be used.
            StoppedError: the process doesn't come up.
        """
        Preprocess(self._preprocess).read_files()  # what is wrong is told here
        self._ring = Ring.create(
            self._ring_bytes, reserve_bytes=_RESERVE_BYTES, counters=COUNTERS
        )
        self._wake_fd, child_fd = os.pipe()
        os.set_blocking(self._wake_fd, False)
        try:
            self._child = self._spawn(child_fd)
        finally:
            os.close(child_fd)
        try:
            self._wait_ready()
        except StoppedError:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, by force after 2 s, and free the ring."""
        if self._child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.close()
        try:
            self._child.wait(2.0)
        except subprocess.TimeoutExpired:
            log.warning("receiver %d didn't end; killed", self._child.pid)
            self._child.kill()
            self._child.wait()
        os.close(self._wake_fd)
        self._ring.close()

    @property
    def alive(self) -> bool:
        """Tell whether the process runs."""
        return self._child.poll() is None

    @property
    def pid(self) -> int:
        """Return the process' number."""
        return self._child.pid

    def fileno(self) -> int:
        """Return what becomes readable when messages wait, or the process died."""
        return self._wake_fd

    def drain(self, most: int = 256) -> list[Message]:
        """Return up to ``most`` messages, frames copied out of the ring; never wait.

        Poll ``fileno`` only after fewer than ``most``: a full list may leave some.
        """
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_fd, 1 << 16)
        messages: list[Message] = []
        while len(messages) < most and (record := self._ring.peek()) is not None:
            try:
                messages.append(read_record(record))
            finally:
                self._ring.release()
        return messages

    def stats(self) -> ReceiverStats:
        """Return the counts so far; also after the process died."""
        counts = self._ring.counters()
        names = {field.name for field in fields(ReceiverStats)} & counts.keys()
        return ReceiverStats(
            **{name: counts[name] for name in names - {"connected"}},
            connected=bool(counts["connected"]),
            ring_used_bytes=self._ring.used,
            ring_bytes=self._ring.capacity,
        )

    def _spawn(self, wake_fd: int) -> subprocess.Popen[bytes]:
        settings = ReceiverSettings(
            endpoint=str(self._endpoint),
            ring_fd=self._ring.fd,
            wake_fd=wake_fd,
            parent_pid=os.getpid(),
            max_frame_bytes=self._max_frame_bytes,
            streams=list(self._streams),
            crop=self._crop,
            preprocess=self._preprocess,
            channel=self._channel,
            first_frame=self._first_frame,
            curve=self._curve,
        )
        child = subprocess.Popen(
            [sys.executable, "-m", "ptystream.ingest.receiver"],
            stdin=subprocess.PIPE,
            pass_fds=(self._ring.fd, wake_fd),
        )
        stdin = child.stdin
        if stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                stdin.write(msgspec.json.encode(settings) + b"\n")
                stdin.flush()
        return child

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        while not self._ring.counters()["ready"]:
            if not self.alive or time.monotonic() > deadline:
                raise StoppedError(
                    f"receiver of {self._endpoint} didn't start "
                    f"(exit code {self._child.returncode}, see its log)"
                )
            time.sleep(_POLL_S)
