import json
import subprocess
import sys

import pytest

from ptystream import __version__
from ptystream.cli import COMMANDS, main


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.strip() == __version__


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert COMMANDS[command].split(",")[0] in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [[], ["dance"], ["serve", "--dance"], ["control", "dance"], ["score"]]
)
def test_wrong_usage_is_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("serve --set engine.dance=1", "engine.dance"),
        ("serve --detector junk", "'junk'"),
        ("serve --set publish.control=junk", "junk"),
        ("serve --set publish.metrics=here", "HOST:PORT"),
        ("serve --set first_probe.source=file", "first_probe.file"),
        ("serve --set first_probe.file={}/none.h5", "none.h5"),
        ("reconstruct {}/none.cxi -o {}/r.h5", "none.cxi"),
        ("reconstruct {}/none.cxi -o /proc/none/r.h5", "/proc/none"),
        ("score {}/none.h5 {}/none.h5", "none.h5"),
        ("replay {}/none.tape", "none.tape"),
        ("record -o {}/none/x.tape", "x.tape"),
        ("simulate --set scan.rate_hz", "KEY=VALUE"),
        ("simulate --set scan.rate_hz=-1", "rate_hz"),
        ("simulate --set scan=1 --set scan.rate_hz=2", "is a value"),
        ("simulate --set detector.address=junk", "junk"),
        ("control status --address junk", "junk"),
        ("control status --address tcp://127.0.0.1:9 --timeout 0.1", "no reply"),
        ("check-config --config {}/none.toml", "none.toml"),
        ("check-config --set positions.endpoint=tcp://a:1", "ptys"),
    ],
)
def test_what_fails_is_1_and_one_line_on_standard_error(line, said, tmp_path, capsys):
    command, *rest = line.replace("{}", str(tmp_path)).split(" ")
    assert main([command, *rest]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"ptystream {command}: ")
    assert said in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_check_config_prints_every_default(capsys):
    assert main(["check-config", "--set", "engine.batch=7"]) == 0
    config = json.loads(capsys.readouterr().out)
    assert config["engine"]["batch"] == 7
    assert config["publish"]["control"] == "tcp://127.0.0.1:5610"


def test_schema_prints_json(capsys):
    assert main(["schema"]) == 0
    assert "DetectorSettings" in json.loads(capsys.readouterr().out)["$defs"]


@pytest.mark.system
@pytest.mark.parametrize("command", ["--help", "check-config", "record --help"])
def test_small_commands_start_without_torch(command):
    program = (
        "import sys; from ptystream.cli import main\n"
        f"try: main({command.split()!r})\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
