import pytest
import zmq.auth

from ptystream.config import load
from ptystream.errors import ConfigError
from ptystream.service.curve import curve_keys
from ptystream.service.intake import Intake
from ptystream.settings import CurveSettings


def test_a_detectors_own_socket_is_pulled_only_with_leave():
    """Pitfall 3: never PULL at the detector; refused by default, and says how."""
    pull = 'detector.endpoint="dectris+pull://127.0.0.1:9999"'
    with pytest.raises(ConfigError, match=r"detector\.allow_pull = true"):
        Intake(load(environment={}, flags=[pull]))
    Intake(load(environment={}, flags=[pull, "detector.allow_pull=true"]))


def test_keys_come_from_files_or_the_environment_or_there_are_none(tmp_path):
    public, secret = zmq.auth.create_certificates(tmp_path, "both")
    files = CurveSettings(server_key_file=public, client_secret_file=secret)
    (tmp_path / "both.key_secret").chmod(0o600)
    keys = curve_keys(files, {})
    assert keys is not None
    variables = {
        "SERVER_PUBLIC_KEY": keys.server,
        "CLIENT_PUBLIC_KEY": keys.public,
        "CLIENT_SECRET_KEY": keys.secret,
    }
    assert curve_keys("env", variables) == keys
    assert curve_keys("env", {}) is None
    assert curve_keys(None, variables) is None
    del variables["CLIENT_SECRET_KEY"]
    with pytest.raises(ConfigError, match="CLIENT_SECRET_KEY missing"):
        curve_keys("env", variables)


def test_half_of_the_files_is_refused():
    with pytest.raises(ConfigError, match="client_secret_file"):
        load(environment={}, flags=['detector.curve={server_key_file="a"}'])
