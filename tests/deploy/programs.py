"""Programs that a machine may not have: a test without one is skipped, and says so."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def program(name: str, package: str) -> str:
    """Return where a program is; skip the test if it isn't installed."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name) or shutil.which(name, path=beside)
    if found is None:
        pytest.skip(f"no {name}: install {package}")
    return found


def said(*command: str, cwd: Path | None = None) -> str:
    """Run a checker that must be content; return what it says."""
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=50, check=False
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{text}"
    return text
