"""Files that are there whole or not at all."""

import contextlib
import fcntl
import logging
import os
import re
import secrets
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)

MAX_NAME = 80

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


def write_atomic(path: Path, *content: bytes | memoryview) -> None:
    """Write, fsync and rename; the folder is made. OSError leaves no trace behind.

    Several parts are written one after the other, none of them copied.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file, temporary = _begun(path)
    with file:
        try:
            for part in content:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)  # locked until it has its name
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    _sync_folder(path.parent)


def sweep(folder: Path) -> int:
    """Remove what writers left unfinished that were killed; return how many files.

    A writer holds a lock on its file for as long as it lives, so those of others that
    write into the same folder stay.
    """
    swept = 0
    for path in folder.glob(".*.part"):
        # Gone by now, not ours to remove, or on a file system without locks.
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            swept += 1
    if swept:
        log.info("%s: removed %d unfinished files of who was killed", folder, swept)
    return swept


def _begun(path: Path) -> tuple[BinaryIO, Path]:
    """Return a new file beside this one, locked, and its name."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        file = temporary.open("xb")
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_SH)  # as HDF5's readers do
        if temporary.exists():
            return file, temporary
        file.close()  # swept before it was locked


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
