"""A folder of CURVE keys for tests: a service, who may command, who may look."""

import shutil
from pathlib import Path

import zmq.auth

from ptystream.wire.curve import Admission, ClientKeys, admission, client_keys


class Keyring:
    """Pairs of ``service``, ``operator``, ``viewer``, and a ``stranger`` on no list."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("service", "operator", "viewer", "stranger"):
            _, secret = zmq.auth.create_certificates(folder, name)
            Path(secret).chmod(0o600)
        for role, name in (("controllers", "operator"), ("readers", "viewer")):
            (folder / role).mkdir(mode=0o700)
            shutil.copy(self.public(name), folder / role)
            (folder / role / f"{name}.key").chmod(0o644)

    def public(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def secret(self, name: str) -> Path:
        return self.folder / f"{name}.key_secret"

    def of(self, name: str, server: str = "service") -> ClientKeys:
        """Return what this client connects to that server with."""
        return client_keys(self.public(server), self.secret(name))

    def admission(self) -> Admission:
        """Return what the service lets in with."""
        folders = self.folder / "readers", self.folder / "controllers"
        return admission(self.secret("service"), *folders)

    def serve_flags(self) -> list[str]:
        """Return the settings of a service with these keys."""
        files = {
            "secret_file": self.secret("service"),
            "readers": self.folder / "readers",
            "controllers": self.folder / "controllers",
        }
        return [f"--set=publish.curve.{key}={path}" for key, path in files.items()]

    def client_flags(self, name: str) -> list[str]:
        """Return the flags of a command that connects to the service."""
        return [f"--server-key={self.public('service')}", f"--key={self.secret(name)}"]
