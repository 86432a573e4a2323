"""A real Prometheus server, with the rules of deploy/, that scrapes one service."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Self

import yaml

SCRAPE = "500ms"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Prometheus:
    """Scrapes and evaluates twice a second, so that tests needn't wait."""

    def __init__(self, binary: str, source: Path, target: str, folder: Path) -> None:
        self._binary, self._folder = binary, folder
        config = yaml.safe_load((source / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE}
        (job,) = config["scrape_configs"]
        job["static_configs"] = [{"targets": [target]}]
        folder.mkdir()
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        shutil.copy(source / "rules.yml", folder)

    def __enter__(self) -> Self:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(
            [
                self._binary,
                f"--config.file={self._folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)
        self._log.close()

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of a reply; fail with its error, unless it starts (503)."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:
                raise
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query."""
        return self.get("query", query=expression)["result"]

    def wait_for(self, expression: str, timeout_s: float = 30.0) -> None:
        """Return once a query has a result."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                if self.query(expression):
                    return
            except urllib.error.URLError:
                pass
            said = (self._folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline_s, f"never: {expression}\n{said}"
            time.sleep(0.1)
