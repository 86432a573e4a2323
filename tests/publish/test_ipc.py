import socket
from pathlib import Path

import pytest

from ptystream.errors import ConfigError
from ptystream.publish.client import ControlClient
from ptystream.publish.control import ControlServer
from ptystream.publish.ipc import SocketFile, check_unused


def status():
    return {"run": None, "scan": None, "state": "idle"}


def addresses(folder: Path) -> tuple[str, str, str]:
    return f"ipc://{folder}/control", f"ipc://{folder}/status", f"ipc://{folder}/view"


def test_a_server_takes_its_socket_files_along(tmp_path):
    with ControlServer({}, status, *addresses(tmp_path)) as server:
        assert len(list(tmp_path.iterdir())) == 3
        with ControlClient(server.control_address) as client:
            assert client.ask("ping")["ok"]
    assert list(tmp_path.iterdir()) == []


def test_a_second_server_is_refused_and_the_first_serves_on(tmp_path):
    with ControlServer({}, status, *addresses(tmp_path)) as first:
        with (
            pytest.raises(ConfigError, match="somebody listens there"),
            ControlServer({}, status, *addresses(tmp_path)),
        ):
            pass
        with ControlClient(first.control_address) as client:
            assert client.ask("ping")["ok"]


def test_a_file_that_nobody_listens_on_is_taken_over(tmp_path):
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "control"))
    dead.close()  # as after SIGKILL: the file stays
    with (
        ControlServer({}, status, *addresses(tmp_path)) as server,
        ControlClient(server.control_address) as client,
    ):
        assert client.ask("ping")["ok"]
    assert list(tmp_path.iterdir()) == []


def test_another_servers_file_is_not_removed(tmp_path):
    path = tmp_path / "control"
    path.touch()
    ours = SocketFile.of(f"ipc://{path}")
    assert ours is not None
    other = tmp_path / "other"
    other.touch()
    other.replace(path)
    ours.remove()
    assert path.exists()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:5555", "ipc://@abstract"])
def test_other_addresses_have_no_file(address):
    check_unused(address)
    assert SocketFile.of(address) is None
