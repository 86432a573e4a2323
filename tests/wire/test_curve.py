"""Keys of CURVE from files and the environment; whatever is half or open is refused."""

import base64

import msgspec
import pytest
from zmq.utils import z85

from ptystream.errors import ConfigError
from ptystream.wire.curve import (
    ClientKeys,
    admission,
    client_keys,
    environment_keys,
    listed,
    server_keys,
)


def test_keys_are_never_shown(keyring):
    client = keyring.of("viewer")
    for text in (repr(client), str(client), f"{client}"):
        assert client.secret not in text
    again = msgspec.json.decode(msgspec.json.encode(client), type=ClientKeys)
    assert again == client


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606])
def test_a_secret_that_others_may_read_is_refused(keyring, mode):
    keyring.secret("viewer").chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        keyring.of("viewer")


def test_files_that_are_no_keys_are_refused(keyring):
    keyring.public("service").write_text("rubbish")
    with pytest.raises(ConfigError, match=r"service\.key"):
        keyring.of("viewer")
    with pytest.raises(ConfigError, match="No such file"):
        server_keys(keyring.secret("nobody"))
    keyring.public("stranger").chmod(0o600)
    with pytest.raises(ConfigError, match="expected a secret key"):
        server_keys(keyring.public("stranger"))


def test_half_a_pair_is_refused(keyring):
    path = keyring.secret("viewer")
    mine = keyring.of("viewer")
    path.write_text(path.read_text().replace(mine.public, mine.server))
    with pytest.raises(ConfigError, match="another's") as error:
        client_keys(keyring.public("stranger"), path)
    assert mine.secret not in str(error.value)


def variables(keys: ClientKeys) -> dict[str, str]:
    return {
        "SERVER_PUBLIC_KEY": keys.server,
        "CLIENT_PUBLIC_KEY": keys.public,
        "CLIENT_SECRET_KEY": keys.secret,
    }


def test_keys_of_the_environment_in_either_form(keyring):
    mine = keyring.of("viewer")
    assert environment_keys(variables(mine)) == mine
    in_base64 = {
        name: base64.b64encode(z85.decode(key)).decode()
        for name, key in variables(mine).items()
    }
    assert environment_keys(in_base64) == mine
    assert environment_keys({"HOME": "/"}) is None


@pytest.mark.parametrize("missing", ["SERVER_PUBLIC_KEY", "CLIENT_SECRET_KEY"])
def test_some_of_the_environments_keys_are_no_keys(keyring, missing):
    """Pitfall 8: partial key sets look like a timeout unless they are refused."""
    given = variables(keyring.of("viewer"))
    given[missing] = " "
    with pytest.raises(ConfigError, match=missing):
        environment_keys(given)


@pytest.mark.parametrize("text", ["short", "x" * 40, "~" * 40, "=" * 44, "é" * 40])
def test_a_key_that_is_none_is_refused_without_being_shown(keyring, text):
    given = {**variables(keyring.of("viewer")), "CLIENT_SECRET_KEY": text}
    with pytest.raises(ConfigError, match="CLIENT_SECRET_KEY") as error:
        environment_keys(given)
    assert text not in str(error.value)


def test_who_is_listed_may_come_in_and_controllers_may_command(keyring):
    let_in = keyring.admission()
    viewer, operator = (keyring.of(n).public for n in ("viewer", "operator"))
    assert (let_in.readers, let_in.controllers) == ({viewer}, {operator})
    assert let_in.admits(viewer)
    assert let_in.admits(operator)
    assert not let_in.admits(keyring.of("stranger").public)
    assert not let_in.admits("")
    assert let_in.keys.secret not in f"{let_in!r} {let_in}"


@pytest.mark.parametrize("mode", [0o775, 0o757])
@pytest.mark.parametrize("what", ["", "viewer.key"])
def test_a_list_that_others_may_write_is_refused(keyring, mode, what):
    (keyring.folder / "readers" / what).chmod(mode)
    with pytest.raises(ConfigError, match="chmod go-w"):
        keyring.admission()


def test_a_list_of_nobody_is_refused(keyring):
    empty = keyring.folder / "empty"
    with pytest.raises(ConfigError, match="expected a folder of public keys"):
        listed(empty)
    empty.mkdir(mode=0o700)
    with pytest.raises(ConfigError, match="nobody could connect"):
        admission(keyring.secret("service"), empty)
    with pytest.raises(ConfigError, match="nobody could connect"):
        admission(keyring.secret("service"), empty, empty)


def test_a_list_with_something_else_in_it_is_refused(keyring):
    path = keyring.folder / "readers" / "note.key"
    path.write_text("rubbish")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"note\.key"):
        keyring.admission()
