"""One input of a fuzzer as several messages of several parts, and back."""

from collections.abc import Iterable, Sequence

PART, MESSAGE = b"\n--part--\n", b"\n==next==\n"
"""What stands between them; a fuzzer has both in its dictionary."""
MAX_MESSAGES, MAX_PARTS = 32, 64


def split(data: bytes) -> list[list[bytes]]:
    """Return the messages, each a list of parts."""
    messages = data.split(MESSAGE, MAX_MESSAGES - 1)
    return [message.split(PART, MAX_PARTS - 1) for message in messages]


def join(messages: Iterable[Sequence[bytes | memoryview]]) -> bytes:
    """Return the input that ``split`` takes apart."""
    return MESSAGE.join(PART.join(bytes(p) for p in parts) for parts in messages)
