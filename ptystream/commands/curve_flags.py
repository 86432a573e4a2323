"""Flags that name files of CURVE keys: no key itself goes on a command line."""

import argparse
from pathlib import Path

from ptystream.errors import ConfigError
from ptystream.wire.curve import Admission, ClientKeys, admission, client_keys


def add_client_keys(parser: argparse.ArgumentParser) -> None:
    """Add ``--server-key`` and ``--key``."""
    parser.add_argument(
        "--server-key", type=Path, metavar="FILE", help="the service's public key"
    )
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="our own secret key, mode 600"
    )


def client_keys_of(args: argparse.Namespace) -> ClientKeys | None:
    """Return the keys to connect with, None without; ConfigError for half of them."""
    files = _both(("--server-key", args.server_key), ("--key", args.key))
    return None if files is None else client_keys(*files)


def add_server_keys(parser: argparse.ArgumentParser) -> None:
    """Add ``--key`` and ``--allow``."""
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="encrypt, with this secret key"
    )
    parser.add_argument(
        "--allow", type=Path, metavar="DIR", help="for those whose public keys are here"
    )


def admission_of(args: argparse.Namespace) -> Admission | None:
    """Return who may connect, None for all; ConfigError for half of the flags."""
    files = _both(("--key", args.key), ("--allow", args.allow))
    return None if files is None else admission(*files)


def _both(*flags: tuple[str, Path | None]) -> tuple[Path, Path] | None:
    """Return both values, None for neither."""
    missing = [name for name, value in flags if value is None]
    given = [value for _, value in flags if value is not None]
    if not given:
        return None
    if missing:
        raise ConfigError(f"CURVE keys: {missing[0]} is missing; both or neither")
    return given[0], given[1]
