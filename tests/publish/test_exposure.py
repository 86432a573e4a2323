"""What other machines may reach."""

import logging

import pytest

from ptystream.errors import ConfigError
from ptystream.publish.control import ControlServer
from ptystream.publish.exposure import check_reach, is_local

LOCAL = (
    "tcp://127.0.0.1:5610",
    "tcp://127.8.0.1:0",
    "tcp://localhost:5610",
    "tcp://[::1]:5610",
    "ipc:///run/ptystream/control",
    "inproc://a",
    "127.0.0.1",
    "127.0.0.1:5613",
    "::1",
    "[::1]:5613",
    "localhost:5613",
)
ABROAD = (
    "tcp://*:5610",
    "tcp://0.0.0.0:5610",
    "tcp://[::]:5610",
    "tcp://10.0.0.7:5610",
    "tcp://eth0:5610",
    "tcp://lo:5610",
    "tcp://beamline.example:5610",
    "tcp://localhost.example:5610",
    "tcp://127.0.0.1.example:5610",
    "tcp://0177.0.0.1:5610",
    "udp://127.0.0.1:5610",
    "0.0.0.0",
    "",
    "::",
    "::1:5613",
    "10.0.0.7:5613",
)


@pytest.mark.parametrize("address", LOCAL)
def test_loopback_and_files_are_local(address):
    assert is_local(address)
    check_reach("it", address, insecure=False, instead="something")


@pytest.mark.parametrize("address", ABROAD)
def test_all_else_is_refused_unless_somebody_says_so(address, caplog):
    assert not is_local(address)
    with pytest.raises(ConfigError, match="expected something"):
        check_reach("it", address, insecure=False, instead="something")
    with caplog.at_level(logging.WARNING):
        check_reach("it", address, insecure=True, instead="something")
    assert "INSECURE" in caplog.text


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_service_without_keys_does_not_leave_its_machine(which, keyring, caplog):
    addresses = ["tcp://127.0.0.1:0"] * 3
    addresses[which] = "tcp://0.0.0.0:0"
    name = ("control", "status", "preview")[which]
    with pytest.raises(ConfigError, match=rf"publish\.{name} .*publish\.curve"):
        ControlServer({}, dict, *addresses)
    with ControlServer({}, dict, *addresses, insecure=True):
        assert f"publish.{name} tcp://0.0.0.0:0: INSECURE" in caplog.text
    caplog.clear()
    with ControlServer({}, dict, *addresses, curve=keyring.admission()) as server:
        assert server.alive()
    assert "INSECURE" not in caplog.text
