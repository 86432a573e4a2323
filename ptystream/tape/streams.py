"""What a tape says of itself: which streams it holds, and in which protocol each is."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

from ptystream.tape.format import Part
from ptystream.wire.envelope import Envelope

Pattern = Literal["sub", "pull", "req", "tcp"]
"""How the messages were had; ``tcp`` is a plain connection, recorded in chunks."""
Decode = Callable[[Sequence[Part]], Iterable[Envelope]]
"""One connection's decoder, which may keep state; it raises DecodeError only."""


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream of a tape, as its header has it.

    ``protocol`` is the name that its URL began with, ``address`` where it came from,
    ``request`` what was said to it: to a plain connection once, by REQ each time.
    """

    stream: str
    protocol: str = "ptys"
    pattern: Pattern = "sub"
    address: str = ""
    topic: str = ""
    request: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return what the tape's header holds."""
        return asdict(self)


def streams_of(header: Mapping[str, Any]) -> dict[str, StreamInfo]:
    """Return a tape's streams by name, of a header that may be damaged or foreign.

    What it doesn't say is the native wire's: a tape whose header was lost plays as
    ``det`` and ``pos`` in ``ptys``.
    """
    told = header.get("taps")
    entries = told if isinstance(told, list) else []
    infos = [_info(entry) for entry in entries if isinstance(entry, dict)]
    found = {info.stream: info for info in infos}
    return found or {name: StreamInfo(name) for name in ("det", "pos")}


def _info(entry: Mapping[str, Any]) -> StreamInfo:
    texts = {key: value for key, value in entry.items() if isinstance(value, str)}
    pattern = texts.get("pattern", "")
    return StreamInfo(
        stream=texts.get("stream", "det"),
        protocol=texts.get("protocol", "ptys"),
        pattern=cast("Pattern", pattern) if pattern in get_args(Pattern) else "sub",
        address=texts.get("address", ""),
        topic=texts.get("topic", ""),
        request=texts.get("request", ""),
    )
