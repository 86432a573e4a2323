"""The REST interface that DECTRIS detectors and their simulators have."""

import json
import urllib.request
from typing import Any


class Simplon:
    """One detector; methods raise URLError if it doesn't answer."""

    def __init__(self, url: str, version: str) -> None:
        self._url, self._version = url, version

    def set(self, module: str, **values: Any) -> None:
        for key, value in values.items():
            self._put(module, f"config/{key}", {"value": value})

    def command(self, name: str) -> None:
        self._put("detector", f"command/{name}", {})

    def _put(self, module: str, path: str, body: dict[str, Any]) -> None:
        request = urllib.request.Request(
            f"{self._url}/{module}/api/{self._version}/{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method="PUT",
        )
        urllib.request.urlopen(request, timeout=30).close()
