import pytest

from ptystream.dashboard.guard import Guard, names_of, read_token
from ptystream.errors import ConfigError
from tests.dashboard.conftest import TOKEN

NAMES = names_of("127.0.0.1", 5613, ["dash.example.org"])


def test_only_the_token_opens_and_only_as_a_bearer():
    guard = Guard(TOKEN, NAMES)
    assert guard.allows(f"Bearer {TOKEN}")
    for header in (
        "",
        TOKEN,
        f"Basic {TOKEN}",
        "Bearer ",
        f"Bearer {TOKEN}x",
        "Bearer é",
    ):
        assert not guard.allows(header)


def test_without_a_token_nobody_acts():
    guard = Guard(None, NAMES)
    assert not guard.acts
    for header in ("", "Bearer", "Bearer ", "Bearer None"):
        assert not guard.allows(header)


@pytest.mark.parametrize(
    ("host", "origin", "known"),
    [
        ("127.0.0.1:5613", None, True),
        ("LOCALHOST:5613", "http://localhost:5613", True),
        ("dash.example.org", "https://dash.example.org", True),
        ("evil.example.org:5613", None, False),
        ("127.0.0.1:5613", "http://evil.example.org", False),
        ("127.0.0.1:5613", "null", False),
        ("", None, False),
    ],
)
def test_foreign_names_and_origins_are_refused(host, origin, known):
    assert Guard(TOKEN, NAMES).knows(host, origin) is known


def test_a_token_file_is_refused_that_others_may_read_or_that_is_short(tmp_path):
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    assert read_token(path) == TOKEN
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others may read"):
        read_token(path)
    path.chmod(0o600)
    path.write_text("short")
    with pytest.raises(ConfigError, match="16 characters"):
        read_token(path)
    with pytest.raises(ConfigError, match="can't be read"):
        read_token(tmp_path / "none")
