"""The commands that a Bluesky session gives, to a whole service in this process."""
# ruff: noqa: F811  (a fixture is imported by name)

import json
import threading
import time
from pathlib import Path

import h5py
import pytest

from ptystream.publish.client import ControlClient
from ptystream.service.live import Service
from tests.service.test_live import beam, served  # noqa: F401
from tests.system.beam import Beam


class Running:
    """A service that runs, and a client of it."""

    def __init__(self, service: Service, beam: Beam) -> None:
        self.service, self.beam = service, beam

    def __enter__(self):
        self.stop, self.told = threading.Event(), []
        self.thread = threading.Thread(
            target=self.service.run,
            args=(self.stop,),
            kwargs={"finished": self.told.append},
        )
        self.thread.start()
        self.client = ControlClient(self.service.addresses()["control"]).__enter__()
        self.beam.wait()
        return self

    def __exit__(self, *_):
        self.client.__exit__(None, None, None)
        self.stop.set()
        self.thread.join(20)

    def ask(self, cmd, **args):
        reply = self.client.ask(cmd, **args)
        assert reply["ok"], reply
        return reply["result"]

    def refusal(self, cmd, **args):
        reply = self.client.ask(cmd, **args)
        assert not reply["ok"], reply
        return reply["error"]

    def until(self, met, timeout_s=20):
        deadline_s = time.monotonic() + timeout_s
        while not (value := met(self.ask("status"))):
            assert time.monotonic() < deadline_s, self.ask("status")
            time.sleep(0.02)
        return value


@pytest.fixture
def running(beam, tmp_path):
    flags = ("publish.every_s=0.05", "refine.max_s=20", "refine.patience_s=20")
    with Service(served(beam, tmp_path, *flags)) as service:
        with Running(service, beam) as running:
            yield running


def test_an_armed_run_is_joined_with_its_scan_and_said_to_be_enough(running):
    said = running.client.ask("arm", uid="raw-1", start_document={"sample": "mine"})
    assert said["ok"]
    assert said["seq"] > 0
    assert running.ask("status")["armed"] == "raw-1"
    scan = running.beam.start()
    running.beam.expose(scan, 0, 60)
    running.until(lambda s: s["raw_uid"] == "raw-1" and s["step"] > 3)
    assert running.ask("status")["armed"] is None
    assert "raw-2 is not open" in running.refusal("stop", uid="raw-2")
    assert "raw-2 is not open" in running.refusal("enough", uid="raw-2")
    assert running.ask("ended", uid="raw-1") == {"ended": None}
    running.ask("enough", uid="raw-1", why="good", refine=True)
    running.until(lambda s: s["state"] == "refining")
    running.beam.expose(scan, 60, 70)  # still under way: harms nothing
    running.beam.end(scan)
    running.ask("enough", uid="raw-1", why="good", refine=False)
    last = running.until(lambda s: s["last"])
    assert (last["raw_uid"], last["reason"], last["refined"]) == (
        "raw-1",
        "complete",
        "good",
    )
    assert running.ask("ended", uid="raw-1")["ended"] == last
    (past,) = running.ask("past")["scans"]
    assert past.items() >= last.items()
    assert past["result"].endswith(f"{scan}_{last['run']}.h5")
    assert json.loads(json.dumps(last, allow_nan=False)) == last
    assert last["quality"]["held_out_error"] is not None


def test_a_run_that_has_no_scan_is_withdrawn_by_a_stop(running):
    running.ask("arm", uid="raw-1")
    running.ask("stop", uid="raw-1")
    assert running.ask("status")["armed"] is None
    scan = running.beam.scan()
    running.until(lambda s: s["scan"] == scan)
    assert running.ask("status")["raw_uid"] is None
    running.ask("stop")


def test_a_scan_that_is_given_up_names_its_run(running):
    running.ask("arm", uid="raw-1")
    running.beam.start(geometry=None)
    last = running.until(lambda s: s["last"])
    assert (last["raw_uid"], last["reason"], last["kept"]) == ("raw-1", "error", False)
    assert "no wavelength_m" in last["refined"]


def test_geometry_comes_with_the_run_and_names_its_origin(running):
    running.ask(
        "configure",
        uid="raw-1",
        start_document={"ptystream": {"distance_m": 1.5}},
        geometry={"energy_ev": {"value": 8000.0, "origin": "baseline: mono"}},
        frames=144,
    )
    scan = running.beam.start()
    running.beam.expose(scan, 0, 60)
    status = running.until(lambda s: s["step"] > 0 and s)
    assert (status["raw_uid"], status["frames"]["expected"]) == ("raw-1", 144)
    run = running.service._engine._run
    assert run.geometry.origins["wavelength_m"] == "baseline: mono"
    assert run.geometry.origins["distance_m"] == "start document: ptystream.distance_m"
    assert run.geometry.distance_m == 1.5
    assert run.geometry.wavelength_m == pytest.approx(1.239841984e-6 / 8000)
    assert run.info.provenance["documents"]["energy_ev"]["value"] == 8000
    running.ask("abort")


def test_a_stack_of_snapshots_is_written(running):
    path = running.ask("stack", name="s", frames=3, size=32)["path"]
    running.until(lambda s: s["stack"]["name"] == "s")
    running.ask("stack_take", frames=2)
    scan = running.beam.start()
    running.beam.expose(scan, 0, 60)
    running.until(lambda s: s["stack"]["written"] == 2)
    running.ask("stack_close")
    with h5py.File(Path(path)) as file:
        assert file["object"].shape == (3, 32, 32)
    running.ask("abort")


@pytest.mark.parametrize(
    ("cmd", "args", "why"),
    [
        ("arm", {}, "missing required field `uid`"),
        ("configure", {"uid": "u", "no": 1}, "unknown field `no`"),
        ("close", {"uid": 3}, "Expected `str`"),
        ("stack", {"name": "s", "frames": 90_000, "size": 4096}, "at most"),
        ("stack_take", {"frames": 0}, ">= 1"),
        ("enough", {"refine": "no"}, "Expected `bool`"),
        ("stop", {"uid": ""}, "length >= 1"),
    ],
)
def test_what_is_wrong_is_refused_in_words(running, cmd, args, why):
    assert why in running.refusal(cmd, **args)


def test_settings_are_told(running):
    assert running.ask("settings")["publish"]["every_s"] == 0.05


def test_what_the_last_scan_left_is_forgotten_when_told(running):
    warm = running.service._engine.warm
    vars(warm)["_left"] = ("something",)
    running.ask("forget")
    assert not vars(warm)["_left"]
