"""Files that are there whole or not at all."""

import os
import re
import secrets
from hashlib import sha256
from pathlib import Path

MAX_NAME = 80

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


def write_atomic(path: Path, content: bytes | memoryview) -> None:
    """Write, fsync and rename; the folder is made. OSError leaves no trace behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def safe_name(text: str) -> str:
    """Return a file name that can't leave its folder; distinct texts stay distinct."""
    name = _UNSAFE.sub("_", text)[:MAX_NAME]
    if name == text and name:
        return name
    return f"{name or 'scan'}-{sha256(text.encode(errors='replace')).hexdigest()[:8]}"


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
