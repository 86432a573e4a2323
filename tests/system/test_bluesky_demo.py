"""``ptystream demo --bluesky``, as a stranger runs it."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.system.conftest import wait_for
from tests.system.processes import Child, alive

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]


def test_the_demo_flies_until_the_image_is_good(tmp_path):
    flags = ("--bluesky", "--json", "--seconds=2", f"--results={tmp_path}")
    with Child(tmp_path, "demo", *flags) as child:
        assert child.ends(120) == 0, child.said()
        (said,) = child.lines()
        quiet = child.said().splitlines()[1:]
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    assert said["original_run_uid"] == said["raw_uid"] != said["derived_uid"]
    assert said["exit_status"] == "success"
    assert said["stopped_early"] is True
    assert said["reason"].startswith("held-out error")
    assert said["reason"] in said["derived"]
    assert said["events"] >= 5
    assert list(Path(said["results"]).glob(f"*{said['derived_uid']}.h5"))
    assert quiet == []


@pytest.mark.slow
def test_ctrl_c_ends_it_and_all_that_it_started(tmp_path):
    flags = ("--bluesky", f"--results={tmp_path}")
    with Child(tmp_path, "demo", *flags) as child:
        wait_for(lambda: len(child.children()) == 3, "proxy, service, beamline", 90)
        families = child.children()
        os.kill(child.process.pid, signal.SIGINT)
        assert child.ends(40) == 130, child.said()
        wait_for(lambda: not any(map(alive, families)), "the end of all three")
        assert "Traceback" not in child.said()
