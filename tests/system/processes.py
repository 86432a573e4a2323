"""Commands of ptystream as child processes that can't outlive their test."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

FREE = "tcp://127.0.0.1:0"
START_S = 60.0
"""Importing torch takes 2 s on an idle core, and ten times that on a busy one."""

SERVED = (
    "--set=engine.threads=1",
    "--set=refine.max_steps=400",
    "--set=refine.check_s=0.2",
    "--set=publish.every_s=0.2",
    "--set=publish.picture=false",
    f"--set=publish.control={FREE}",
    f"--set=publish.status={FREE}",
    f"--set=publish.preview={FREE}",
    "--set=publish.metrics=127.0.0.1:0",
)
"""A quick service on free ports."""


class Child:
    """One command in a session of its own; every failure shows what it said."""

    def __init__(
        self, folder: Path, *words: str, python: tuple[str, ...] = ("-m", "ptystream")
    ) -> None:
        """Store; ``python`` is what the interpreter is to run."""
        self._words = [*python, *words]
        self._stderr = folder / f"{time.monotonic_ns()}.err"
        self._unread = b""

    def __enter__(self) -> Self:
        with self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, *self._words],
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        return self

    def __exit__(self, *_: object) -> None:
        """Kill the whole session: a receiver must not outlive a killed service."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def said(self) -> str:
        """Return its standard error so far, for the message of an assertion."""
        return f"{' '.join(self._words)}\n{self._stderr.read_text()[-4000:]}"

    def line(self, timeout_s: float = START_S) -> Any:
        """Return the next line of JSON on its standard output."""
        deadline_s = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            assert time.monotonic() < deadline_s, f"no line from {self.said()}"
            data = self._read(0.2)
            ended = data == b"" and self.process.poll() is not None
            assert not ended, f"ended with {self.process.poll()}: {self.said()}"
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def lines(self) -> list[dict[str, Any]]:
        """Return all further lines; it must have ended."""
        while self._read(0.0):
            pass
        text, self._unread = self._unread, b""
        return [json.loads(line) for line in text.splitlines()]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self.process.send_signal(number)

    def ends(self, timeout_s: float = 30.0) -> int:
        """Return its exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs: {self.said()}") from None

    def children(self) -> list[int]:
        """Return the processes that it started and that still run."""
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        return [int(pid) for pid in listed.stdout.split()]

    def _read(self, timeout_s: float) -> bytes | None:
        """Read what is there: None if nothing came, empty at the end."""
        stdout = self.process.stdout
        if stdout is None or not select.select([stdout], [], [], timeout_s)[0]:
            return None
        data = os.read(stdout.fileno(), 1 << 16)
        self._unread += data
        return data


def ran(folder: Path, *words: str, timeout_s: float = START_S) -> list[dict[str, Any]]:
    """Run a command to its end, which must be a success; return its lines of JSON."""
    with Child(folder, *words) as child:
        code = child.ends(timeout_s)
        assert code == 0, f"exit code {code}: {child.said()}"
        return child.lines()


def alive(pid: int) -> bool:
    """Tell whether a process runs (and is no zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
