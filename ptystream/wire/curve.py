"""CURVE keys: from files or the environment to a socket, and nowhere else."""

import base64
import contextlib
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import zmq
from zmq.auth.certs import load_certificate
from zmq.utils import z85

from ptystream.errors import ConfigError

REFUSED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
"""What a socket's monitor says when the keys are wrong; all else is silence."""
VARIABLES = ("SERVER_PUBLIC_KEY", "CLIENT_PUBLIC_KEY", "CLIENT_SECRET_KEY")
"""The environment's keys: Z85 (40 characters) or base64 (44)."""


class _Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keys in Z85; they are never shown."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"


class ClientKeys(_Keys, frozen=True):
    """What a client needs: the server's public key and both of its own."""

    server: str
    public: str
    secret: str

    def apply(self, socket: zmq.Socket[Any]) -> None:
        """Make a socket, not yet connected, a CURVE client."""
        socket.curve_serverkey = self.server.encode()
        socket.curve_publickey = self.public.encode()
        socket.curve_secretkey = self.secret.encode()


class ServerKeys(_Keys, frozen=True):
    """What a server needs: its own keys. An ``Admission`` says who may connect."""

    public: str
    secret: str

    def apply(self, socket: zmq.Socket[Any]) -> None:
        """Make a socket, not yet bound, a CURVE server."""
        socket.curve_server = True
        socket.curve_publickey = self.public.encode()
        socket.curve_secretkey = self.secret.encode()


class Admission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A server's keys, and the public keys (Z85) of those who may connect.

    Readers may look, controllers may command as well.
    """

    keys: ServerKeys
    readers: frozenset[str]
    controllers: frozenset[str] = frozenset()

    def admits(self, public: str) -> bool:
        """Tell whether whoever has this key may connect."""
        return public in self.readers or public in self.controllers


def client_keys(server_key_file: Path, client_secret_file: Path) -> ClientKeys:
    """Read certificates as ``zmq.auth.create_certificates`` makes them.

    Raises:
        ConfigError: a file can't be read, lacks its key, or others may read a secret.
    """
    server, _ = _certificate(server_key_file)
    keys = server_keys(client_secret_file)
    return ClientKeys(server, keys.public, keys.secret)


def server_keys(secret_file: Path) -> ServerKeys:
    """Read one's own certificate; raise ConfigError as ``client_keys`` does."""
    try:
        mode = secret_file.stat().st_mode
    except OSError as e:
        raise ConfigError(f"CURVE key {secret_file}: {e.strerror}") from e
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(
            f"CURVE key {secret_file}: others may read it; chmod 600 {secret_file}"
        )
    public, secret = _certificate(secret_file)
    if secret is None:
        raise ConfigError(f"CURVE key {secret_file}: expected a secret key in it")
    return ServerKeys(*_matching(public, secret, f"{secret_file}"))


def admission(
    secret_file: Path, readers: Path, controllers: Path | None = None
) -> Admission:
    """Read a server's certificate, and two folders of its clients' public ones.

    Raises:
        ConfigError: as ``client_keys``; a folder that others may write to, or nobody in
            either.
    """
    keys = server_keys(secret_file)
    looking = listed(readers)
    acting = frozenset[str]() if controllers is None else listed(controllers)
    if not looking | acting:
        folders = readers if controllers is None else f"{readers} and {controllers}"
        raise ConfigError(f"CURVE: no *.key in {folders}: nobody could connect")
    return Admission(keys, looking, acting)


def listed(folder: Path) -> frozenset[str]:
    """Return the public keys in a folder's ``*.key``; ConfigError as ``admission``."""
    if not folder.is_dir():
        raise ConfigError(f"CURVE: {folder}: expected a folder of public keys")
    files = sorted(folder.glob("*.key"))
    for path in (folder, *files):
        if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigError(f"CURVE: {path}: others may write it; chmod go-w {path}")
    return frozenset(_certificate(path)[0] for path in files)


def environment_keys(variables: Mapping[str, str]) -> ClientKeys | None:
    """Return the keys of the environment, None where it has none of the three.

    Raises:
        ConfigError: some of the three are missing, or one is no key.
    """
    given = {name: variables.get(name, "").strip() for name in VARIABLES}
    missing = [name for name, text in given.items() if not text]
    if len(missing) == len(VARIABLES):
        return None
    if missing:
        raise ConfigError(f"CURVE keys: {' and '.join(missing)} missing; all or none")
    server, public, secret = (_key(text, name) for name, text in given.items())
    return ClientKeys(server, *_matching(public, secret, VARIABLES[2]))


def _certificate(path: Path) -> tuple[str, str | None]:
    try:
        public, secret = load_certificate(path)
    except (OSError, ValueError) as e:
        raise ConfigError(f"CURVE key {path}: no certificate of zmq.auth") from e
    own = None if secret is None else _key(secret.decode("ascii", "replace"), f"{path}")
    return _key(public.decode("ascii", "replace"), f"{path}"), own


def _key(text: str, name: str) -> str:
    """Return a key in Z85; its text is never part of an error."""
    key = b""
    # struct.error is what z85 raises for characters that make too large a number.
    with contextlib.suppress(ValueError, KeyError, OverflowError, struct.error):
        if len(text) == 44:
            key = base64.b64decode(text, validate=True)
        elif len(text) == 40:
            key = z85.decode(text)
    if len(key) != 32:
        raise ConfigError(
            f"CURVE key {name}: {len(text)} characters that are no key; expected Z85 "
            f"(40) or base64 (44)"
        )
    return z85.encode(key).decode("ascii")


def _matching(public: str, secret: str, name: str) -> tuple[str, str]:
    """Return a pair of keys; raise ConfigError if the one isn't the other's."""
    if zmq.curve_public(secret.encode()).decode("ascii") != public:
        raise ConfigError(f"CURVE key {name}: its public key is another's")
    return public, secret
