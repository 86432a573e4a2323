"""A virtual environment for each peer, made when it is first needed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ptystream.errors import PtystreamError

TORCH = "torch==2.13.0"
"""The peers' torch, and ours; ``PTYSTREAM_TORCH`` replaces it, as in tools/setup."""
LONGEST_S = 1800.0
"""An installation that takes longer is given up."""
TOLD_CHARACTERS = 300
"""How much of an installer's last words is kept."""


class PeerError(PtystreamError):
    """A peer can't be installed, or its run failed; the others go on."""


@dataclass(frozen=True)
class Environment:
    """What is installed for a peer; an empty ``package`` is this checkout.

    ``python`` is the least version that runs it: PtyRAD 1.0.0 declares 3.10, but one of
    its f-strings is a syntax error before 3.12. ``torch`` tells whether it is installed
    with the same torch as ours.
    """

    name: str
    package: str
    python: tuple[int, int] = (3, 11)
    torch: bool = True


OURS = Environment("ptystream", "")
PTYCHI = Environment("ptychi", "ptychi==2.2.0")
PTYRAD = Environment("ptyrad", "ptyrad==1.0.0", python=(3, 12))
QUANTEM = Environment("quantem", "quantem==0.1.10")
LIBERTEM = Environment("libertem", "libertem-dectris==0.3.2", torch=False)


def interpreter(environment: Environment, cache: Path) -> Path:
    """Return the environment's Python, installing it if it is not there yet.

    Raises:
        PeerError: no Python is new enough, or pip failed: with its last words.
    """
    if not environment.package:
        return Path(sys.executable)
    folder = cache / environment.name
    python, stamp = folder / "bin" / "python", folder / ".installed"
    torch = os.environ.get("PTYSTREAM_TORCH") or TORCH
    # In one call: torchvision must match this torch, not bring another.
    packages = [*(torch.split() if environment.torch else ()), environment.package]
    wanted = "\n".join(packages)
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"installing {environment.package} into {folder}", file=sys.stderr)
    _run([str(_base(environment.python)), "-m", "venv", str(folder)])
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    _run([*pip, *packages])
    stamp.write_text(wanted)
    return python


def runner(environment: Environment) -> str:
    """Return the name of the script that runs there."""
    return f"{environment.name}_runner.py"


def _base(least: tuple[int, int]) -> Path:
    """Return the first Python that is new enough."""
    for path in _pythons():
        check = f"import sys; sys.exit(sys.version_info < {least})"
        done = subprocess.run([path, "-c", check], capture_output=True, check=False)
        if done.returncode == 0:
            return path
    raise PeerError(f"needs Python {least[0]}.{least[1]} or newer: none was found")


def _pythons() -> Iterator[Path]:
    """Yield this Python, those on the path, and those that pyenv keeps off it."""
    yield Path(sys.executable).resolve()
    for minor in (12, 13, 14):
        found = shutil.which(f"python3.{minor}")
        if found:
            yield Path(found)
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(root.glob("versions/3.*/bin/python3"))


def _run(words: list[str]) -> None:
    try:
        subprocess.run(
            words, capture_output=True, text=True, check=True, timeout=LONGEST_S
        )
    except subprocess.CalledProcessError as error:
        said = " ".join((error.stderr or error.stdout or "").split())
        raise PeerError(f"{words[-1]}: {said[-TOLD_CHARACTERS:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"{words[-1]}: {error}") from error
