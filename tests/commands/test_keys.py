"""``ptystream keys``, and the flags that name keys."""

import json
from pathlib import Path

import pytest

from ptystream.cli import main
from ptystream.config import load
from ptystream.service.curve import server_admission
from ptystream.wire.curve import client_keys


def made(capsys, *words: str) -> dict:
    assert main(["keys", "new", "--quiet", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_new_keys_fit_each_other_and_are_their_owners_alone(tmp_path, capsys):
    folder = tmp_path / "keys"
    said = made(capsys, str(folder), "--control=ann", "--read=bob", "--read=wall")
    flags = [f"publish.curve.{k}={v}" for k, v in said["publish.curve"].items()]
    let_in = server_admission(load(environment={}, flags=flags).publish.curve)
    assert let_in is not None
    assert (len(let_in.readers), len(let_in.controllers)) == (2, 1)
    server = Path(said["server_key"])
    ann, bob = (
        client_keys(server, Path(said["keys"][name])) for name in ("ann", "bob")
    )
    assert ann.server == let_in.keys.public
    assert ann.public in let_in.controllers
    assert bob.public in let_in.readers
    for path in (folder, *folder.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
    secrets = [keys.secret for keys in (ann, bob, let_in.keys)]
    assert not any(secret in json.dumps(said) for secret in secrets)


def test_more_can_be_added_and_none_is_overwritten(tmp_path, capsys):
    before = made(capsys, str(tmp_path), "--control=ann")
    service = Path(before["publish.curve"]["secret_file"])
    kept = service.read_text()
    assert set(made(capsys, str(tmp_path), "--read=bob")["keys"]) == {"bob"}
    assert service.read_text() == kept
    ann = Path(before["keys"]["ann"]).read_text()
    assert main(["keys", "new", str(tmp_path), "--read=ann"]) == 1
    assert "there already" in capsys.readouterr().err
    assert Path(before["keys"]["ann"]).read_text() == ann


@pytest.mark.parametrize("name", ["service", "../ann", "a/b", "", ".ann", "a" * 65])
def test_a_name_that_is_a_path_or_the_services_is_refused(tmp_path, capsys, name):
    assert main(["keys", "new", str(tmp_path / "keys"), f"--read={name}"]) == 1
    assert "expected letters" in capsys.readouterr().err
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("control ping --key k", "--server-key"),
        ("control ping --server-key k", "--key"),
        ("watch --once --key k", "--server-key"),
        ("dashboard --server-key k", "--key"),
        ("simulate --key k", "--allow"),
        ("simulate --allow k", "--key"),
    ],
)
def test_half_of_the_keys_is_refused_and_says_what_is_missing(line, missing, capsys):
    assert main(line.split()) == 1
    assert f"{missing} is missing" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["secret_file", "readers", "controllers"])
def test_half_of_the_services_settings_is_refused(keyring, missing, capsys):
    flags = [flag for flag in keyring.serve_flags() if missing not in flag]
    assert main(["serve", *flags]) == 1
    assert f"publish.curve.{missing}: Field required" in capsys.readouterr().err


@pytest.mark.parametrize(
    "what", ["publish.control", "publish.status", "publish.preview"]
)
def test_a_service_without_keys_stays_on_its_machine(what, capsys):
    assert main(["serve", f"--set={what}=tcp://0.0.0.0:0"]) == 1
    assert f"{what} tcp://0.0.0.0:0: other machines" in capsys.readouterr().err


def test_so_does_pvaccess(capsys):
    pytest.importorskip("p4p", reason="p4p is not installed")
    flags = ["--set=publish.pva.prefix=P", "--set=publish.pva.interface=0.0.0.0"]
    assert main(["serve", *flags]) == 1
    assert "publish.pva.interface 0.0.0.0: other machines" in capsys.readouterr().err


def test_so_does_a_dashboard(capsys):
    pytest.importorskip("bokeh", reason="bokeh is not installed")
    assert main(["dashboard", "--listen=0.0.0.0:0"]) == 1
    assert "--listen 0.0.0.0: other machines" in capsys.readouterr().err
