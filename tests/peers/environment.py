"""Peers that can't be installed beside us: a virtual environment each, made once.

They lie in the user's cache; ``PTYSTREAM_PEERS`` names another folder.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.error import URLError

import pytest

CACHE = Path(os.environ.get("PTYSTREAM_PEERS", "~/.cache/ptystream-peers")).expanduser()
INSTALL_S = 500.0


def environment(name: str, *requirements: str) -> Path:
    """Return the folder of programs of a peer's environment; skip if pip can't."""
    home = CACHE / f"{name}-py{sys.version_info.major}.{sys.version_info.minor}"
    stamp = home / "requirements"
    wanted = "\n".join(requirements)
    if not stamp.is_file() or stamp.read_text() != wanted:
        _run(sys.executable, "-m", "venv", "--clear", str(home))
        _run(str(home / "bin" / "pip"), "install", "-q", *requirements)
        stamp.write_text(wanted)
    return home / "bin"


def packages(programs: Path) -> Path:
    """Return the folder that an environment's packages are in."""
    (found,) = (programs.parent / "lib").glob("python3*/site-packages")
    return found


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, for peers that can't choose one."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def running(command: Sequence[str], log: Path, ready_url: str) -> Iterator[None]:
    """Run a peer's server until the block ends; fail if it doesn't answer."""
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            _wait(process, log, ready_url)
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], log: Path, url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    pytest.fail(f"{process.args} didn't answer:\n{log.read_text()[-2000:]}")


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, timeout=INSTALL_S, capture_output=True)
    except (OSError, subprocess.SubprocessError) as e:
        told = (getattr(e, "stderr", None) or b"").decode(errors="replace")
        pytest.skip(f"{' '.join(command[:4])}: {told.strip()[-300:] or e}")
