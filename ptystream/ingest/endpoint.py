"""Where a stream comes from, as a URL: ``ptys+sub://host:port``."""

from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from ptystream.errors import ConfigError
from ptystream.ingest.protocols import PROTOCOLS, Pattern, Wire


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
        pattern = "" if self.pattern == "tcp" else f"+{self.pattern}"
        ipc = "+ipc" if transport == "ipc" else ""
        return f"{self.protocol}{pattern}{ipc}://{rest}"

    @property
    def wire(self) -> Wire:
        """Return how its protocol is received."""
        return PROTOCOLS[self.protocol]


def parse_endpoint(url: str, stream: str | None = None) -> Endpoint:
    """Return the endpoint of a URL; raise ConfigError that says what was expected.

    ``stream`` is what must come from there, ``det`` or ``pos``; None: either.
    """
    scheme, found, rest = url.partition("://")
    protocol, *tail = scheme.split("+")
    wire = PROTOCOLS.get(protocol)
    if not found or wire is None:
        raise ConfigError(f"endpoint {url!r}: {_expected()}")
    if stream is not None and stream not in wire.streams:
        fit = [name for name, other in PROTOCOLS.items() if stream in other.streams]
        what = "frames" if stream == "det" else "positions"
        raise ConfigError(f"endpoint {url!r} sends no {what}; {', '.join(fit)} do")
    # Only a plain connection goes without a pattern.
    pattern = tail.pop(0) if tail and "tcp" not in wire.patterns else "tcp"
    if pattern not in wire.patterns or tail not in ([], ["tcp"], ["ipc"]):
        raise ConfigError(f"endpoint {url!r}: {_expected(protocol)}")
    address = _ipc(url, rest) if tail == ["ipc"] else _tcp(url, rest, protocol)
    return Endpoint(protocol, cast(Pattern, pattern), address)


def check_taking(endpoint: Endpoint, *, allowed: bool, how: str) -> None:
    """Raise ConfigError for an endpoint that would take frames from its consumer.

    ``how`` says which setting or flag allows it.
    """
    if endpoint.pattern in endpoint.wire.takes_away and not allowed:
        raise ConfigError(
            f"{endpoint}: a second consumer takes frames away from the first one, "
            f"such as the file writer; if there is none, allow it with {how}"
        )


def check_keys(endpoint: Endpoint, keys: object) -> None:
    """Raise ConfigError for keys of a connection that knows no encryption."""
    if keys is not None and endpoint.pattern == "tcp":
        raise ConfigError(
            f"{endpoint}: a plain connection can't be encrypted; expected no CURVE keys"
        )


def _expected(protocol: str | None = None) -> str:
    """Say how a URL of this protocol looks, or which protocols there are."""
    if protocol is None:
        return (
            f"expected <protocol>+<pattern>://HOST:PORT or "
            f"<protocol>+<pattern>+ipc:///PATH with protocol {' or '.join(PROTOCOLS)}, "
            f"such as ptys+sub://127.0.0.1:5555"
        )
    wire = PROTOCOLS[protocol]
    forms = [protocol if p == "tcp" else f"{protocol}+{p}" for p in wire.patterns]
    port = f"[:{wire.default_port}]" if wire.default_port else ":PORT"
    return f"expected {' or '.join(forms)}, then ://HOST{port}"


def _tcp(url: str, rest: str, protocol: str) -> str:
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname, parts.port
    except ValueError as e:
        raise ConfigError(f"endpoint {url!r}: {e}; {_expected(protocol)}") from e
    if port is None and not rest.endswith(":"):
        port = PROTOCOLS[protocol].default_port
    if not host or not port or parts.netloc != rest or "@" in rest:
        raise ConfigError(f"endpoint {url!r}: {_expected(protocol)}")
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def _ipc(url: str, path: str) -> str:
    # A Unix socket's path has at most 107 bytes on Linux, 103 on macOS.
    if not path.startswith("/") or len(path.encode()) > 103:
        raise ConfigError(f"endpoint {url!r}: an absolute path of at most 103 bytes")
    return f"ipc://{path}"
