"""``tools/peers``: problems, scores, tables, resuming; no peer is needed."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptystream.recon.score import Image
from ptystream.sim.settings import preset
from ptystream.tape.cxi import CxiScan
from tools.rivals import arena as arenas
from tools.rivals.arena import Arena, Task
from tools.rivals.environments import OURS, Environment, PeerError, interpreter
from tools.rivals.judge import Point, at, best, judged
from tools.rivals.plot import plot
from tools.rivals.problems import (
    BASE,
    MIDDLING,
    PROBLEMS,
    STAR,
    Made,
    Problem,
    make,
    star_halves,
)
from tools.rivals.race import RUNNERS, Limits, run
from tools.rivals.report import claims, contest, markdown
from tools.rivals.result import Result, better, kept, result_of
from tools.rivals.solvers import SOLVERS, Solver, wanted
from tools.rivals.star import halves, held_out_error

TINY = Problem("overlap-85", "tiny", MIDDLING)
RUNNER = """
import numpy as np
from common import Race
race = Race()
truth = np.load(race.settings["truth"])
race.keep(np.ones_like(truth["object"]), race.probe, tuple(truth["origin_px"]))
race.keep(truth["object"], truth["probe"], tuple(truth["origin_px"]))
race.keep(truth["object"] * np.nan, race.probe, tuple(truth["origin_px"]))
race.done(3, fake="1.0")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    return make(TINY, tmp_path_factory.mktemp("problem"), quick=True)


def point(cpu_s: float, amplitude_db: float, phase_db: float) -> Point:
    pair = (amplitude_db, phase_db)
    return Point(cpu_s, 2 * cpu_s, pair, pair, (15.0, 20.0), 0.1)


def result(label: str, *points: Point, problem: str = "overlap-85", **more) -> Result:
    told = {"variant": "docs", "seconds": 25.0, "threads": 1, **more}
    return Result(problem, label, points=list(points), **told)


def test_problems_cover_the_issue():
    assert {"overlap-95", "overlap-85", "overlap-50", "overlap-30"} <= set(PROBLEMS)
    assert {"photons", "mixed", "wrong-probe", "misplaced"} <= set(PROBLEMS)
    assert {"fly", "modes"} <= set(PROBLEMS)
    for problem in PROBLEMS.values():
        assert problem.settings().seed == BASE["seed"]


def test_problems_have_pictures_and_a_lens_of_their_own():
    demo, here = (s.model_dump() for s in (preset("demo"), TINY.settings()))
    for part, name in (
        ("sample", "amplitude_picture"),
        ("sample", "phase_picture"),
        ("optics", "outer_zone_m"),
        ("optics", "defocus_m"),
    ):
        assert here[part][name] != demo[part][name]
    assert here["seed"] != demo["seed"]


def test_a_problem_is_the_same_for_ptystream_and_for_peers(made: Made):
    with np.load(made.npz) as file, CxiScan(made.cxi) as scan:
        frames = np.stack([frame.counts for frame in scan.frames()])
        np.testing.assert_array_equal(file["frames"], frames)
        placed_m = made.centre_m + file["positions_px"] * np.array(made.pixel_m)
        np.testing.assert_allclose(placed_m, scan.positions_m, atol=1e-15)
        assert scan.illumination is not None
        np.testing.assert_allclose(file["probe"], scan.illumination, rtol=1e-6)
        assert len(frames) == np.prod(file["shape"]) == 100
        assert not file["refine_positions"]


def test_the_first_probe_is_wrong_and_the_truth_is_not_told(made: Made):
    assert made.truth is not None
    assert made.truth.probe is not None
    with np.load(made.npz) as file:
        assert set(file) == {
            "frames",
            "positions_px",
            "probe",
            "shape",
            "step_px",
            "refine_positions",
            "mask",
        }
        overlap = abs(np.vdot(file["probe"], made.truth.probe))
    assert overlap < 0.999 * np.linalg.norm(made.truth.probe) ** 2


def test_misplaced_positions_are_a_pixel_off(tmp_path: Path, made: Made):
    wrong = make(replace(TINY, misplaced_px=1.0), tmp_path, quick=True)
    with np.load(wrong.npz) as file, np.load(made.npz) as right:
        off_m = (
            wrong.centre_m
            - made.centre_m
            + (file["positions_px"] - right["positions_px"]) * np.array(made.pixel_m)
        )
        np.testing.assert_array_equal(file["frames"], right["frames"])
        assert file["refine_positions"]
    rms_px = np.sqrt((off_m**2).mean()) / made.pixel_m[0]
    assert 0.85 < rms_px < 1.15


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_every_method_of_every_peer_races_with_two_settings(problem: Problem):
    racing = wanted(problem)
    assert {s.label for s in racing} == {s.label for s in SOLVERS}
    few = problem.kind == "few"
    unfit = [s for s in racing if s.variant == ("tuned" if few else "few")]
    assert {s.method for s in unfit} <= {"dgp"}
    for solver in racing:
        assert (RUNNERS / f"{solver.environment.name}_runner.py").exists()


@pytest.fixture
def fake(made: Made, tmp_path: Path, monkeypatch) -> Solver:
    """A solver whose runner knows the truth: an empty object, the right one, NaN."""
    assert made.truth is not None
    assert made.truth.probe is not None
    truth = tmp_path / "truth.npz"
    origin_px = (np.array(made.truth.origin_m) - made.centre_m) / np.array(made.pixel_m)
    np.savez(
        truth,
        object=made.truth.object[0],
        probe=made.truth.probe,
        origin_px=origin_px,
    )
    runners = tmp_path / "runners"
    runners.mkdir()
    (runners / "common.py").write_text((RUNNERS / "common.py").read_text())
    (runners / "fake_runner.py").write_text(RUNNER)
    monkeypatch.setattr("tools.rivals.race.RUNNERS", runners)
    environment = Environment("fake", "fake")
    return Solver("fake", "all", "docs", environment, {"truth": str(truth)})


def test_a_run_is_measured_and_scored_where_its_picture_lies(
    made: Made, fake: Solver, tmp_path: Path
):
    folder = tmp_path / "ran"
    ran = run(fake, TINY, made, Path(sys.executable), folder, Limits(5.0, 1))
    assert ran.iterations == 3
    assert ran.versions == {"fake": "1.0"}
    assert 0.0 < ran.cpu_s
    assert ran.peak_mib > 10
    empty, right = judged(folder, made)  # what isn't finite is not kept
    assert empty.aligned == pytest.approx(empty.empty, abs=0.01)
    assert min(right.aligned) > 60
    assert right.probe_error < 1e-3
    assert 0 < empty.cpu_s <= right.cpu_s < ran.cpu_s


def test_a_failing_peer_is_told_with_its_last_words(
    made: Made, fake: Solver, tmp_path: Path
):
    broken = replace(fake, values={"truth": "/nowhere"})
    with pytest.raises(PeerError, match="nowhere"):
        run(broken, TINY, made, Path(sys.executable), tmp_path / "ran", Limits(5.0, 1))


def test_what_was_run_is_not_run_again(made: Made, fake: Solver, tmp_path, monkeypatch):
    monkeypatch.setattr(arenas, "make", lambda *_, **__: made)
    asked: list[str] = []

    def python(environment: Environment) -> Path:
        asked.append(environment.name)
        return Path(sys.executable)

    def arena(seconds: float, again: bool = False) -> Arena:
        told = {"pythons": python, "seconds": seconds, "threads": 1, "again": again}
        return Arena(tmp_path / "out", **told)

    task = Task("overlap-85", fake)
    first = arena(5.0).run(task)
    assert arena(5.0).run(task) == first
    assert asked == ["fake"]
    assert arena(6.0).run(task).seconds == 6.0
    assert len(asked) == 2
    arena(6.0, again=True).run(task)
    assert len(asked) == 3


def test_a_peer_that_cant_be_installed_is_told_and_tried_again(tmp_path, monkeypatch):
    def python(environment: Environment) -> Path:
        raise PeerError(f"{environment.name}: no such package")

    monkeypatch.setattr(arenas, "make", lambda *_, **__: pytest.fail("not needed"))
    arena = Arena(tmp_path, pythons=python, seconds=5.0, threads=1)
    found = arena.run(Task("overlap-85", SOLVERS[1]))
    assert "no such package" in found.error
    path = tmp_path / "overlap-85" / f"{SOLVERS[1].name}.json"
    assert kept(path, seconds=found.seconds, threads=1) is None
    assert "no such package" in markdown([found], {})


def test_our_own_environment_is_this_one_and_no_python_is_new_enough_for_some(tmp_path):
    assert interpreter(OURS, tmp_path) == Path(sys.executable)
    with pytest.raises(PeerError, match="needs Python 9"):
        interpreter(Environment("x", "x", python=(9, 9)), tmp_path)


def test_results_come_back_from_json(tmp_path: Path):
    told = result("a", point(3, 20, 25), versions={"a": "1"}, star={"held_out": 0.1})
    told.write(tmp_path / "a.json")
    assert result_of(json.loads((tmp_path / "a.json").read_text())) == told
    assert kept(tmp_path / "a.json", seconds=25.0, threads=1) == told
    assert kept(tmp_path / "a.json", seconds=25.0, threads=2) is None
    (tmp_path / "a.json").write_text("{")
    assert kept(tmp_path / "a.json", seconds=25.0, threads=1) is None


def test_the_better_settings_and_the_best_state_count():
    docs = result("a", point(1, 20, 25), point(2, 30, 35), point(3, 10, 15))
    tuned = result("a", point(1, 31, 33), variant="tuned")
    assert best(docs.points) == docs.points[1]
    assert better([docs, tuned]) is docs
    assert at(docs.points, 2.5) == docs.points[1]
    assert at(docs.points, 0.5) is None


@pytest.mark.parametrize(
    ("problem", "ours", "holds"),
    [
        ("overlap-85", (29.6, 34.6), True),
        ("overlap-85", (29.4, 40.0), False),
        ("photons", (33.0, 38.0), True),
        ("photons", (33.0, 37.9), False),
        ("overlap-50", (20.0, 45.0), True),
        ("overlap-50", (39.9, 44.9), False),
    ],
)
def test_what_was_promised_is_told(problem, ours, holds):
    peer = result("a", point(10, 30, 35), problem=problem)
    mine = result(OURS.name, point(9, *ours), point(11, 99, 99), problem=problem)
    (claim,) = claims([peer, mine])
    assert claim.holds is holds
    assert contest(problem, [peer, mine]).leader == "a"


def test_without_peers_nothing_is_told_and_other_problems_promise_nothing():
    alone = result(OURS.name, point(1, 20, 25))
    (claim,) = claims([alone])
    assert claim.holds is None
    assert not list(claims([replace(alone, problem="fly")]))


def test_table_and_picture_come_from_stored_results(tmp_path: Path):
    star = {"held_out": 0.0123, "frc_nm": 21.5}
    results = [
        result("a", point(10, 30, 35), versions={"a": "1.2"}),
        result(OURS.name, point(9, 31, 36)),
        result("a", problem=STAR, star=star),
    ]
    results = [
        result_of(told)
        for told in json.loads(json.dumps([r.as_dict() for r in results]))
    ]
    text = markdown(results, {"cpu": "some"})
    for words in ("cpu some", "a 1.2", "30.0 / 35.0", "0.0123 | 21.5", "| yes |"):
        assert words in text
    assert "| 31.0 / 36.0 | 30.0 / 35.0, a | 10 s |" in text
    assert plot(results, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000
    assert not plot([result("a", error="no")], tmp_path / "b.png")


def test_a_measured_scan_is_split_into_even_and_odd_frames(made: Made, tmp_path: Path):
    even, odd = star_halves(made.cxi, tmp_path).values()
    with np.load(even.npz) as first, np.load(odd.npz) as second, CxiScan(made.cxi) as s:
        counts = np.stack([frame.counts for frame in s.frames()])
        np.testing.assert_array_equal(first["frames"], counts[::2])
        np.testing.assert_array_equal(second["frames"], counts[1::2])
    assert even.truth is None
    with CxiScan(odd.cxi) as scan:
        assert len(scan) == 50
        assert scan.illumination is not None


def test_frames_never_seen_are_predicted_by_the_truth_alone(made: Made):
    truth = made.truth
    assert truth is not None
    with np.load(made.npz) as file:
        frames = file["frames"][::10]
        places_m = made.centre_m + file["positions_px"][::10] * np.array(made.pixel_m)
        mask = file["mask"]
    right = held_out_error(truth, frames, places_m, mask)
    empty = Image(
        np.ones_like(truth.object), truth.pixel_m, truth.origin_m, truth.probe
    )
    moved_m = places_m + 0.5 * made.pixel_m[0]
    assert right < 1e-4
    assert held_out_error(truth, frames, moved_m, mask) > 20 * right
    assert held_out_error(empty, frames, places_m, mask) > 20 * right
    assert np.isnan(held_out_error(truth, frames, places_m + 1.0, mask))
    mask[:, 10] = False
    spoilt = frames.copy()
    spoilt[:, :, 10] = 10**6
    assert held_out_error(truth, spoilt * mask, places_m, mask) < 1e-4


def test_two_halves_tell_a_resolution(made: Made, tmp_path: Path):
    assert made.truth is not None
    assert made.truth.probe is not None
    probe, image = made.truth.probe, made.truth.object[0]
    away_m = np.array(made.truth.origin_m) - made.centre_m
    origin_px = away_m / np.array(made.pixel_m)
    for name in ("even", "odd"):
        (tmp_path / name).mkdir()
        for i, shown in enumerate((image, np.ones_like(image))):
            np.savez(
                tmp_path / name / f"{i}.npz",
                object=shown,
                probe=probe,
                origin_px=origin_px,
                cpu_s=1.0,
                wall_s=1.0,
            )
    found = halves(tmp_path / "even", tmp_path / "odd", (made, made))
    assert found["held_out"] < 1e-4
    assert found["frc_nm"] < 3e9 * made.pixel_m[0]


@pytest.mark.slow
def test_our_own_runner_reconstructs_a_problem(tmp_path: Path):
    arena = Arena(
        tmp_path,
        pythons=lambda environment: interpreter(environment, tmp_path),
        seconds=4.0,
        threads=1,
        quick=True,
    )
    (task,) = arena.tasks("overlap-85", [OURS.name])
    found = arena.run(task)
    assert not found.error
    assert found.versions["ptystream"]
    assert found.points[-1].aligned[1] > found.points[-1].empty[1] + 1
    assert found.peak_mib > 100
