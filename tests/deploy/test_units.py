"""The systemd units, by systemd's own checkers and the commands' own parsers."""

import os
import re
import shlex
import stat
import sys
from pathlib import Path

import pytest

from ptystream.cli import main
from tests.deploy.programs import program, said

BIN = "/opt/ptystream/current/bin"
UNITS = ("ptystream", "ptystream-dashboard", "ptystream-proxy", "ptystream-record")
SLACK = 0.3
"""By which systemd's versions differ in what they count, of 10."""


def settings(path: Path, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", path.read_text(), re.MULTILINE)


def test_there_are_no_others(deploy):
    assert {p.stem for p in (deploy / "systemd").glob("*.service")} == set(UNITS)


@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_nothing_wrong(name, deploy, tmp_path):
    analyze = program("systemd-analyze", "systemd")
    unit = (deploy / f"systemd/{name}.service").read_text()
    path = tmp_path / f"{name}.service"
    path.write_text(unit.replace(BIN, str(Path(sys.executable).parent)))
    assert said(analyze, "verify", str(path)) == ""


@pytest.mark.parametrize("name", UNITS)
def test_no_unit_is_more_exposed_than_the_page_says(name, deploy):
    analyze = program("systemd-analyze", "systemd")
    if int(said(analyze, "--version").split()[1]) < 250:
        pytest.skip("systemd-analyze security --offline came with systemd 250")
    unit = str(deploy / f"systemd/{name}.service")
    text = said(analyze, "security", "--offline=true", "--no-pager", unit)
    (exposed,) = re.findall(r"exposure level for \S+: ([\d.]+)", text)
    page = (deploy / "README.md").read_text()
    (told,) = re.findall(rf"`{name}.service` \| ([\d.]+) \|", page)
    assert float(exposed) <= float(told) + SLACK


@pytest.mark.parametrize("name", UNITS)
def test_what_it_starts_takes_these_flags(name, deploy, capsys):
    (line,) = settings(deploy / f"systemd/{name}.service", "ExecStart")
    path, *words = shlex.split(line)
    assert path.startswith(BIN)
    if Path(path).name == "ptystream":
        with pytest.raises(SystemExit) as ended:
            main([words[0], "--help"])
        text = capsys.readouterr().out
        assert ended.value.code == 0
    else:
        text = said(str(Path(sys.executable).parent / Path(path).name), "--help")
    flags = [word for word in words if word.startswith("--")]
    assert flags
    assert all(flag in text for flag in flags)


def test_the_system_calls_of_a_service_are_allowed(deploy):
    """Those that strace saw of a whole scan, of the receiver too, on x86-64."""
    analyze = program("systemd-analyze", "systemd")
    listed = set(said(analyze, "syscall-filter", "@resources").split())
    assert {"sched_setaffinity", "mbind"} <= listed
    filters = settings(deploy / "systemd/ptystream.service", "SystemCallFilter")
    assert filters == ["@system-service", "~@privileged"]
    assert not settings(deploy / "systemd/ptystream.service", "MemoryDenyWriteExecute")


def test_each_user_is_made(deploy):
    made = re.findall(
        r"^u (\S+)", (deploy / "systemd/ptystream.sysusers").read_text(), re.M
    )
    for name in UNITS:
        path = deploy / f"systemd/{name}.service"
        users = settings(path, "User")
        assert set(users) <= set(made)
        assert users or settings(path, "DynamicUser") == ["yes"]


def test_no_file_of_deploy_is_a_program_or_a_secret(deploy):
    for path in deploy.rglob("*"):
        if path.is_file():
            assert not path.stat().st_mode & stat.S_IXUSR, path
            assert os.access(path, os.R_OK)
            assert "secret" not in path.name
            assert "key" not in path.suffix
