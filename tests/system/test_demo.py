"""The demo, as a stranger runs it."""

import json
import os
import signal
from pathlib import Path

import pytest

from ptystream.publish.files import read_result
from tests.system.conftest import wait_for
from tests.system.processes import Child, alive

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

KEYS = {
    "frames_sent",
    "frames_received",
    "frames_lost",
    "psnr_amplitude_db",
    "psnr_phase_db",
    "seconds_after_last_frame",
    "picture",
    "report",
    "result",
}


def demo(folder: Path, *flags: str) -> dict:
    """Run it; return its last line, which is JSON."""
    with Child(folder, "demo", f"--results={folder}", *flags) as child:
        code = child.ends(200)
        assert code == 0, child.said()
        return child.lines()[-1]


def is_in_order(said: dict) -> None:
    """Assert what holds for any preset."""
    assert said.keys() == KEYS
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    assert said["frames_received"] == said["frames_sent"] - said["frames_lost"]
    assert Path(said["picture"]).read_bytes().startswith(b"\x89PNG")
    assert "How it went" in Path(said["report"]).read_text()
    assert read_result(Path(said["result"])).scan


def test_a_short_demo_says_what_it_did(tmp_path):
    said = demo(tmp_path, "--preset=half", "--seconds=3")
    is_in_order(said)
    assert (said["frames_sent"], said["frames_lost"]) == (64, 0)
    assert said["seconds_after_last_frame"] < 6


@pytest.mark.slow
def test_the_demo_reconstructs_its_sample(tmp_path):
    said = demo(tmp_path)
    is_in_order(said)
    assert (said["frames_sent"], said["frames_lost"]) == (2500, 0)
    # An empty object gets 22.5 and 19.9 dB; reached on two busy cores: 39 and 37.
    assert said["psnr_amplitude_db"] > 30
    assert said["psnr_phase_db"] > 28


def test_ctrl_c_ends_the_demo_and_all_that_it_started(tmp_path):
    with Child(tmp_path, "demo", f"--results={tmp_path}") as child:
        wait_for(lambda: len(child.children()) == 3, "beamline, service, page", 60)
        families = child.children()
        os.killpg(child.process.pid, signal.SIGINT)
        assert child.ends(30) == 130, child.said()
        wait_for(lambda: not any(map(alive, families)), "the end of all")
        assert "Traceback" not in child.said()
