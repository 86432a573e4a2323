"""Secrets in files: never in a setting, on a command line or in a log."""

import stat
from pathlib import Path

from ptystream.errors import ConfigError


def read_secret(path: Path, what: str) -> str:
    """Return a file's one line of ASCII, without space around it.

    Args:
        path: the file.
        what: what it holds, for the message.

    Raises:
        ConfigError: it can't be read, is empty, or others may read it.
    """
    try:
        mode, secret = path.stat().st_mode, path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what} {path}: can't be read") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{path}: others may read it; chmod 600 {path}")
    if not secret:
        raise ConfigError(f"{what} {path}: empty")
    return secret
