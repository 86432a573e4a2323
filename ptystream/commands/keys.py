"""``ptystream keys``: pairs of CURVE keys, and the lists of who may come in."""

import argparse
import os
import re
from pathlib import Path

from zmq.auth import create_certificates

from ptystream.commands.common import say_json
from ptystream.errors import ConfigError

SERVICE = "service"
ROLES = {"control": "controllers", "read": "readers"}
"""Each role, and the folder of its public keys."""
NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
PRIVATE = 0o077
"""Taken off every file and folder from its very beginning."""


def add_arguments(parser: argparse.ArgumentParser, _name: str) -> None:
    """Add what ``keys`` takes."""
    parser.add_argument("what", choices=("new",), help="make pairs of keys")
    parser.add_argument("folder", type=Path, metavar="DIR", help="where they are kept")
    for role, what in (("control", "command"), ("read", "look")):
        parser.add_argument(
            f"--{role}",
            action="append",
            default=[],
            metavar="NAME",
            help=f"somebody who may {what}; may be repeated",
        )


def run(args: argparse.Namespace) -> int:
    """Make the service's pair if there is none, and one for each name; print paths."""
    folder: Path = args.folder
    names = {role: _names(getattr(args, role)) for role in ROLES}
    before = os.umask(PRIVATE)
    try:
        for kind in ROLES.values():
            (folder / kind).mkdir(parents=True, exist_ok=True)
        service = folder / f"{SERVICE}.key_secret"
        if not service.exists():
            _pair(folder, SERVICE)
        made = {n: str(_client(folder, n, r)) for r in ROLES for n in names[r]}
    finally:
        os.umask(before)
    lists = {kind: str(folder / kind) for kind in ROLES.values()}
    say_json(
        {
            "publish.curve": {"secret_file": str(service), **lists},
            "server_key": str(folder / f"{SERVICE}.key"),
            "keys": made,
        }
    )
    return 0


def _client(folder: Path, name: str, role: str) -> Path:
    """Make a client's pair, put the public one on its role's list; return the other."""
    secret = _pair(folder, name)
    (folder / f"{name}.key").rename(folder / ROLES[role] / f"{name}.key")
    return secret


def _pair(folder: Path, name: str) -> Path:
    """Make ``NAME.key`` and ``NAME.key_secret``; ConfigError if there is one."""
    if (folder / f"{name}.key_secret").exists():
        raise ConfigError(f"{folder / name}.key_secret: there already; keys are kept")
    _, secret = create_certificates(folder, name)
    return Path(secret)


def _names(names: list[str]) -> list[str]:
    for name in names:
        if name == SERVICE or not re.fullmatch(NAME, name):
            raise ConfigError(
                f"name {name!r}: expected letters, digits, _ . -, and not {SERVICE!r}"
            )
    return names
