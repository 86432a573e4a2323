"""What comes off a wire before its pixels are decoded, whatever the protocol."""

import math
from dataclasses import dataclass

import numpy as np

from ptystream.wire import codecs
from ptystream.wire.codecs import Buffer, Encoding
from ptystream.wire.columns import Columns
from ptystream.wire.messages import Calibration, Frame, Message


@dataclass(frozen=True, slots=True)
class Limits:
    """What a decoder accepts; checked before memory is taken."""

    max_frame_bytes: int = 8 << 20
    max_samples: int = 1 << 20
    max_per_frame: int = 1 << 14
    channel: str | None = None
    """The one to take of a detector with several; None: its first."""
    first_frame: int = 0
    """What the wire calls the first frame of a scan, where it numbers as it likes."""


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """A frame whose pixels are still compressed, to be decoded where they are needed.

    Its fields are those of ``Frame``; ``payload`` may be a view of the message it came
    in. The decoder has checked shape, dtype and encoding, not the payload.
    """

    scan: str
    index: int
    shape: tuple[int, int]
    dtype: str
    encoding: str
    payload: Buffer
    start_ns: int = 0
    stop_ns: int = 0

    @property
    def nbytes(self) -> int:
        """Return the size of the decoded pixels."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def decode_into(self, out: np.ndarray) -> None:
        """Fill ``out``, of this shape and dtype; raise DecodeError and nothing else."""
        codecs.decode_into(self.payload, self.encoding, out)

    def decode_rows(self, first: int, stop: int) -> np.ndarray:
        """Return rows ``first`` to ``stop``, maybe a view; raise DecodeError only."""
        where = self.shape, np.dtype(self.dtype), first, stop
        return codecs.decode_rows(self.payload, self.encoding, *where)

    def decode(self, arrived_s: float = 0.0) -> Frame:
        """Return the frame with its pixels; raise DecodeError and nothing else."""
        counts = np.empty(self.shape, self.dtype)
        self.decode_into(counts)
        times = self.start_ns, self.stop_ns
        return Frame(self.scan, self.index, counts, *times, arrived_s)


@dataclass(frozen=True, slots=True)
class UnknownKind:
    """A message of a kind that this version doesn't know: count it and go on."""

    kind: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message as it came over the wire.

    ``seq`` is None where the protocol doesn't number its messages; ``sent_ns`` is the
    sender's wall clock.
    """

    message: Message | EncodedFrame | Columns | Calibration | UnknownKind
    stream: str
    run: str
    seq: int | None
    sent_ns: int


def encode_frame(frame: Frame, encoding: Encoding = "raw") -> EncodedFrame:
    """Compress a frame ahead of its time to be sent.

    Raises ValueError for pixels that the wire doesn't carry.
    """
    if frame.counts.ndim != 2:
        raise ValueError(f"counts of shape {frame.counts.shape}, expected [h, w]")
    return EncodedFrame(
        scan=frame.scan,
        index=frame.index,
        shape=(frame.counts.shape[0], frame.counts.shape[1]),
        dtype=frame.counts.dtype.str,
        encoding=encoding,
        payload=codecs.encode(frame.counts, encoding),
        start_ns=frame.start_ns,
        stop_ns=frame.stop_ns,
    )
