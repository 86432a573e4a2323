"""Control requests and replies as JSON: pure, no socket."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec

from ptystream.errors import DecodeError

MAX_REQUEST_BYTES = 64 * 1024

Command = Callable[[dict[str, Any]], Mapping[str, Any] | None]
"""Takes the request's args, returns the result. Must be quick: it hands over."""


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client asks; an unknown key is an error, not a typo that runs."""

    cmd: Annotated[str, msgspec.Meta(max_length=64)]
    id: (
        Annotated[int, msgspec.Meta(ge=0, le=2**53)]
        | Annotated[str, msgspec.Meta(max_length=128)]
        | None
    ) = None
    args: dict[str, Any] = {}


_decoder = msgspec.json.Decoder(Request)


def decode_request(parts: list[bytes]) -> Request:
    """Decode one message, from a DEALER or a REQ; DecodeError and nothing else."""
    body = parts[1:] if len(parts) == 2 and not parts[0] else parts
    if len(body) != 1:
        raise DecodeError(f"request of {len(body)} parts, expected 1")
    if len(body[0]) > MAX_REQUEST_BYTES:
        raise DecodeError(
            f"request of {len(body[0])} bytes, at most {MAX_REQUEST_BYTES}"
        )
    try:
        return _decoder.decode(body[0])
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"request: {error}") from error


def encode(message: Mapping[str, Any]) -> bytes:
    """Encode as JSON; NaN and infinity become null. Raises TypeError for no JSON."""
    return msgspec.json.encode(message)
