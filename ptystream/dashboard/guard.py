"""Who may look and who may act: the token and the names that the page goes by."""

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from ptystream.errors import ConfigError
from ptystream.publish.secret import read_secret

SHORTEST = 16
"""Characters of a token: what is shorter can be guessed."""
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def read_token(path: Path) -> str:
    """Return a token; ConfigError if it can't be read, is short, or others may read."""
    token = read_secret(path, "token file")
    if len(token) < SHORTEST or not token.isprintable():
        raise ConfigError(f"{path}: expected a token of {SHORTEST} characters or more")
    return token


class Guard:
    """Compares tokens in constant time, and names with those allowed.

    ``token`` None: nobody may act. A page of a foreign name is refused, so that no
    website can reach a dashboard on loopback through its visitor's browser.
    """

    def __init__(self, token: str | None, names: Iterable[str]) -> None:
        self.acts = token is not None
        self._digest = _digest(token or "")
        self.names = frozenset(name.lower() for name in names)

    def allows(self, authorization: str) -> bool:
        """Tell whether an ``Authorization`` header carries the token."""
        scheme, _, token = authorization.partition(" ")
        same = hmac.compare_digest(_digest(token.strip()), self._digest)
        return self.acts and scheme == "Bearer" and same

    def knows(self, host: str, origin: str | None) -> bool:
        """Tell whether a request is for this page, and not from another's."""
        here = host.lower() in self.names
        return here and (
            origin is None or urlsplit(origin).netloc.lower() in self.names
        )


def names_of(host: str, port: int, more: Iterable[str]) -> list[str]:
    """Return the ``HOST:PORT`` by which browsers may call the page."""
    loopback = [f"{name}:{port}" for name in LOOPBACK]
    return [f"{host}:{port}", *loopback, *more]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
