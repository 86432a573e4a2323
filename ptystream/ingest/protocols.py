"""The wires that can be received, by the name that their URLs begin with."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ptystream.wire import native
from ptystream.wire.codecs import Buffer
from ptystream.wire.envelope import Envelope, Limits


class Decoder(Protocol):
    """One connection's decoder; it may keep state from message to message."""

    def topics(self, streams: Sequence[str]) -> Sequence[bytes]:
        """Return the prefixes that a SUB socket needs for these streams."""
        ...

    def decode(self, parts: Sequence[Buffer]) -> Sequence[Envelope]:
        """Decode one multipart message; raise DecodeError and nothing else."""
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


PROTOCOLS: Mapping[str, Callable[[Limits], Decoder]] = {"ptys": NativeDecoder}
"""A new wire is one more line here."""
