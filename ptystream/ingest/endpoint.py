"""Where a stream comes from, as a URL: ``ptys+sub://host:port``."""

from dataclasses import dataclass
from typing import Literal, cast, get_args
from urllib.parse import urlsplit

from ptystream.errors import ConfigError
from ptystream.ingest.protocols import PROTOCOLS

Pattern = Literal["sub", "pull"]
_EXPECTED = (
    f"expected <protocol>+<pattern>://HOST:PORT or <protocol>+<pattern>+ipc:///PATH "
    f"with protocol {' or '.join(PROTOCOLS)} and pattern sub or pull, "
    f"such as ptys+sub://127.0.0.1:5555"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A sender to connect to.

    ``sub`` gets a copy of each message; ``pull`` shares them with every other puller.
    ``address`` is ZeroMQ's.
    """

    protocol: str
    pattern: Pattern
    address: str

    def __str__(self) -> str:
        transport, rest = self.address.split("://", 1)
        ipc = "+ipc" if transport == "ipc" else ""
        return f"{self.protocol}+{self.pattern}{ipc}://{rest}"


def parse_endpoint(url: str) -> Endpoint:
    """Return the endpoint of a URL; raise ConfigError that says what was expected."""
    scheme, found, rest = url.partition("://")
    protocol, _, tail = scheme.partition("+")
    pattern, _, transport = tail.partition("+")
    known = protocol in PROTOCOLS and pattern in get_args(Pattern)
    if not (found and known and transport in ("", "tcp", "ipc")):
        raise ConfigError(f"endpoint {url!r}: {_EXPECTED}")
    address = _ipc(url, rest) if transport == "ipc" else _tcp(url, rest)
    return Endpoint(protocol, cast(Pattern, pattern), address)


def _tcp(url: str, rest: str) -> str:
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname, parts.port
    except ValueError as e:
        raise ConfigError(f"endpoint {url!r}: {e}; {_EXPECTED}") from e
    if not host or not port or parts.netloc != rest or "@" in rest:
        raise ConfigError(f"endpoint {url!r}: {_EXPECTED}")
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def _ipc(url: str, path: str) -> str:
    # A Unix socket's path has at most 107 bytes on Linux, 103 on macOS.
    if not path.startswith("/") or len(path.encode()) > 103:
        raise ConfigError(f"endpoint {url!r}: an absolute path of at most 103 bytes")
    return f"ipc://{path}"
