"""A real Tiled server in a process of its own, on a port that stays the same."""

import socket
import subprocess
import sys
import time
from typing import Self

import httpx

KEY = "secretkeyforthetests"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class TiledProcess:
    """``tiled serve catalog --temp``; killed and started again it has lost all."""

    def __init__(self) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.serve()
        self.wait()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def serve(self) -> None:
        command = [sys.executable, "-m", "tiled", "serve", "catalog", "--temp"]
        options = ["--api-key", KEY, "--port", str(self.port)]
        self._process = subprocess.Popen(
            [*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def wait(self, timeout_s: float = 90) -> None:
        """Return once it answers: after 4 s on an idle core, 30 on a busy one."""
        deadline_s = time.monotonic() + timeout_s
        with httpx.Client() as client:  # one: to read the certificates takes 50 ms
            while True:
                try:
                    client.get(f"{self.uri}/api/v1/").raise_for_status()
                except httpx.HTTPError:
                    assert time.monotonic() < deadline_s, "no Tiled server came up"
                    time.sleep(0.1)
                else:
                    return

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None
