"""Sockets that are files: ZeroMQ takes one from the living, and leaves its own behind.

Measured with libzmq 4.3.5: a second server that binds an ``ipc://`` address unlinks the
first one's file, and neither ``close`` nor ``unbind`` removes it.
"""

import contextlib
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ptystream.errors import ConfigError

_SCHEME = "ipc://"


def check_unused(address: str) -> None:
    """Raise ConfigError if it is a socket file on which somebody listens."""
    path = _path(address)
    if path is None or not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.settimeout(1.0)
        probe.connect(str(path))
        raise ConfigError(f"can't bind {address}: somebody listens there")


@dataclass(frozen=True, slots=True)
class SocketFile:
    """A bound address' file, known by its inode: another server's is not ours."""

    path: Path
    inode: int

    @classmethod
    def of(cls, address: str) -> Self | None:
        """Return the file of an address just bound; None if it has none."""
        path = _path(address)
        return None if path is None else cls(path, path.stat().st_ino)

    def remove(self) -> None:
        """Remove it, unless it is gone or another's by now."""
        with contextlib.suppress(OSError):
            if self.path.stat().st_ino == self.inode:
                self.path.unlink()


def _path(address: str) -> Path | None:
    """Return an address' file; None for TCP and for Linux' names without a file."""
    name = address.removeprefix(_SCHEME)
    return None if name == address or name.startswith("@") else Path(name)
