"""The wires that can be received, by the name that their URLs begin with."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ptystream.wire import native
from ptystream.wire.areadetector import ArrayDecoder
from ptystream.wire.codecs import Buffer
from ptystream.wire.dectris import DectrisDecoder
from ptystream.wire.dectris2 import Dectris2Decoder
from ptystream.wire.envelope import Envelope, Limits
from ptystream.wire.karabo import KaraboDecoder
from ptystream.wire.panda_json import PandaJsonDecoder
from ptystream.wire.panda_stream import PandaDecoder

Pattern = Literal["sub", "pull", "req", "tcp"]
"""How messages are had: ``tcp`` is a plain connection, which URLs don't name."""
Stream = Literal["det", "pos"]


class Decoder(Protocol):
    """One connection's decoder; it may keep state from message to message."""

    def topics(self, streams: Sequence[str]) -> Sequence[bytes]:
        """Return the prefixes that a SUB socket needs for these streams."""
        ...

    def decode(self, parts: Sequence[Buffer]) -> Iterable[Envelope]:
        """Decode one multipart message, or one chunk of a plain connection.

        Raises DecodeError and nothing else, maybe after good envelopes.
        """
        ...


class NativeDecoder:
    """``ptys/1``, which needs no state."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def topics(self, streams: Sequence[str]) -> Sequence[bytes]:
        """Return ``ptys1/<stream>/`` for each stream."""
        return [native.MAGIC + f"{stream}/".encode() for stream in streams]

    def decode(self, parts: Sequence[Buffer]) -> Sequence[Envelope]:
        """Return the one envelope; raise DecodeError and nothing else."""
        return [native.decode(parts, limits=self._limits)]


@dataclass(frozen=True, slots=True)
class Wire:
    """How a protocol is received.

    ``patterns`` are those that its senders speak, the usual one first;
    ``takes_away`` those that take messages from another consumer who counts on all of
    them, so that they need the user's leave. Without ``names_scans`` frames and
    positions of a scan share no name: they are joined by what was open when they came.
    A part of a message may be ``largest`` times as large as a frame: a detector's mask.
    """

    decoder: Callable[[Limits], Decoder]
    patterns: tuple[Pattern, ...]
    streams: tuple[Stream, ...]
    names_scans: bool
    default_port: int | None = None
    takes_away: tuple[Pattern, ...] = ()
    largest: int = 1


PROTOCOLS: Mapping[str, Wire] = {
    "ptys": Wire(NativeDecoder, ("sub", "pull"), ("det", "pos"), names_scans=True),
    "dectris": Wire(
        DectrisDecoder,
        ("pull", "sub"),
        ("det",),
        names_scans=False,
        default_port=9999,
        takes_away=("pull",),
        largest=4,
    ),
    "dectris2": Wire(
        Dectris2Decoder,
        ("pull", "sub"),
        ("det",),
        names_scans=False,
        default_port=31001,
        takes_away=("pull",),
        largest=16,
    ),
    "array": Wire(
        ArrayDecoder,
        ("sub", "pull"),
        ("det",),
        names_scans=False,
        takes_away=("pull",),
    ),
    "karabo": Wire(
        KaraboDecoder,
        ("req", "sub", "pull"),
        ("det",),
        names_scans=False,
        takes_away=("pull",),
    ),
    "panda": Wire(
        PandaDecoder, ("tcp",), ("pos",), names_scans=False, default_port=8889
    ),
    "panda-json": Wire(PandaJsonDecoder, ("sub",), ("pos",), names_scans=False),
}
"""A new wire is one more entry here."""
