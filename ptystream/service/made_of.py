"""What an offline result was made of, so that it can be made again."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from ptystream.config import Config
from ptystream.errors import FileFormatError
from ptystream.ingest.preprocess_options import STREAM

LIVE = "live"
"""The name of the live engine, beside those of the classical ones."""


@dataclass(frozen=True, slots=True)
class Job:
    """A file to reconstruct: which scan of a tape, which exposures, by which engine."""

    file: Path
    scan: str | None = None
    half: Literal["even", "odd"] | None = None
    engine: str = LIVE

    def as_dict(self, sha256: Mapping[str, str]) -> dict[str, Any]:
        """Return what the result says of it; safe as JSON."""
        told = {**asdict(self), "file": str(self.file.absolute())}
        return {**told, "sha256": dict(sha256)}


class _MadeOf(msgspec.Struct, frozen=True):
    file: str
    sha256: dict[str, str]
    scan: str | None = None
    half: Literal["even", "odd"] | None = None
    engine: str = LIVE


def job_of(provenance: Mapping[str, Any]) -> tuple[Job, dict[str, str]]:
    """Return what a result was made of, and the sums of all files that went in.

    Raises:
        FileFormatError: the result doesn't tell.
    """
    try:
        told = msgspec.convert(provenance["input"], _MadeOf)
    except (KeyError, msgspec.ValidationError) as error:
        raise FileFormatError(
            f"it doesn't tell what it was made of ({error}): expected a result of "
            "ptystream reconstruct, or of a service with checkpoint.tape"
        ) from error
    return Job(Path(told.file), told.scan, told.half, told.engine), told.sha256


def files_of(job: Job, config: Config) -> list[Path]:
    """Return every file whose content decides the result."""
    p = config.detector.preprocess
    named = [name for name in (p.mask, p.dark, p.flat) if name and name != STREAM]
    named = [name.rpartition(":/")[0] or name for name in named]
    named += [f for f in (config.first_probe.file, config.first_object.file) if f]
    return [job.file.absolute(), *(Path(name).absolute() for name in named)]


def sums(files: Iterable[Path]) -> dict[str, str]:
    """Return each file's SHA-256 sum, in hexadecimal."""
    return {str(path): _sum(path) for path in files}


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
