"""``tools/bench live``: what is streamed, how it is judged, and that it runs."""

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptystream.config import set_flags
from ptystream.publish.files import read_result
from ptystream.recon.score import Image
from ptystream.sim.experiment import build
from ptystream.sim.settings import preset
from tools.benchmarks.figures import Figure
from tools.benchmarks.live_memory import Grown, Memory, memory_of
from tools.benchmarks.live_plot import plot
from tools.benchmarks.live_probe import half_size, shifted, write_first_probe
from tools.benchmarks.live_report import as_dict, claims, lines
from tools.benchmarks.live_run import AFTER, END, LAST, Offline, Run
from tools.benchmarks.live_scans import QUICK, SCANS, Scan
from tools.benchmarks.live_score import Curve, Judge, Pair, Point, curve, snapshots
from tools.benchmarks.live_stream import Steps, Streamed

ROOT = Path(__file__).parents[1]
FLAT: Pair = (17.0, 24.0)
EVERY = [*SCANS.values(), *(s.short for s in SCANS.values() if s.short)]


def point(at_s: float, amplitude_db: float, phase_db: float) -> Point:
    return Point(at_s, 10, (amplitude_db, phase_db), FLAT)


def live(folder: Path, *, paired: int = 64, peak_mib: float = 500.0) -> Streamed:
    box = {"items": 64, "late_s": 0.0, "last_s": 18.0}
    return Streamed(
        stack=folder / "none.h5",
        began_s=0.0,
        last_frame_s=18.0,
        sent={"detector": box, "encoder": box},
        ended={
            "frames": {"paired": paired},
            "refined": "the limit of 10 s",
            "seconds_after_last_frame": 10.0,
        },
        steps=Steps(100, 0.008),
        peak=Memory(peak_mib, 200.0),
    )


def run(
    folder: Path, scan: Scan, field: str, after_db: Pair, end_db: Pair, **streamed
) -> Run:
    points = [point(6.0, 18.0, 25.0), point(18.0, *after_db), point(20.0, *after_db)]
    offline = Offline((30.0, 36.0), {"steps": 900}) if field == "auto" else None
    return Run(
        scan,
        field,
        live(folder, **streamed),
        Curve(points, {LAST: points[1], AFTER: points[2]}),
        end_db,
        FLAT,
        0.1,
        offline,
        0.002,
    )


def by_name(figures) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures}


@pytest.mark.parametrize("scan", EVERY, ids=lambda scan: scan.name)
def test_the_flags_are_the_settings_and_the_last_frame_comes_in_time(scan):
    tree: dict = {}
    name, *flags = scan.flags(hurry=2.0)
    set_flags(tree, [flag.removeprefix("--set=") for flag in flags])
    settings = scan.settings(hurry=2.0)
    assert preset(name.removeprefix("--preset="), tree) == settings
    lines, a_line = settings.scan.shape
    took_s = lines * a_line / settings.scan.rate_hz
    took_s += (lines - 1) * settings.scan.line_pause_s
    assert took_s == pytest.approx(scan.seconds / 2)


def test_no_scan_is_one_that_defaults_were_chosen_on():
    demo = preset("demo")
    for scan in EVERY:
        settings = scan.settings()
        assert settings.seed != demo.seed
        assert settings.sample.amplitude_picture != demo.sample.amplitude_picture
        assert settings.sample.phase_picture != demo.sample.phase_picture
        assert settings.optics.outer_zone_m != demo.optics.outer_zone_m


def test_the_long_scan_is_ten_times_its_store_and_its_short_one():
    scan = SCANS["long"]
    assert scan.short is not None
    frames, few = (np.prod(s.settings().scan.shape) for s in (scan, scan.short))
    assert scan.told == scan.short.told == (f"engine.store={frames // 10}",)
    assert frames / few == pytest.approx(10, rel=0.01)
    assert scan.frames_mib == 3600 * 64 * 64 * 4 / 2**20
    shapes = [build(s.settings()).truth.object.shape for s in (scan, scan.short)]
    assert max(shapes[1]) == pytest.approx(max(shapes[0]), rel=0.02)


def test_wrong_first_probes_are_moved_and_smaller():
    probe = np.zeros((1, 64, 64), complex)
    probe[0, 20:45, 32] = 1j
    assert np.array_equal(shifted(probe)[0, 23:48, 32], probe[0, 20:45, 32])
    small = half_size(probe)
    assert np.flatnonzero(small[0, :, 32]).tolist() == list(range(26, 39))


def test_the_first_probe_given_is_the_believed_one_spoiled(tmp_path):
    settings = SCANS["shifted"].settings()
    write_first_probe(tmp_path / "first.h5", settings, lambda probe: probe)
    given, truth = read_result(tmp_path / "first.h5").probe, build(settings).truth.probe
    overlap = abs(np.vdot(given, truth)) / np.linalg.norm(given) / np.linalg.norm(truth)
    assert 0.5 < overlap < 0.99
    right = settings.optics.model_copy(update={"defocus_error": 0.0})
    settings = settings.model_copy(update={"optics": right})
    write_first_probe(tmp_path / "right.h5", settings, lambda probe: probe)
    assert np.allclose(read_result(tmp_path / "right.h5").probe, truth)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(build(SCANS["dense"].settings()))


def test_the_area_judged_grows_with_the_scan_to_the_published_crop(judge):
    areas = [judge.scanned(n).sum() for n in (1, 60, 1800, 3600)]
    assert areas == sorted(areas)
    lit = judge.scanned(3600)
    rows, columns = (np.flatnonzero(lit.any(axis=i)) for i in (1, 0))
    assert 181 <= min(len(rows), len(columns)) <= max(len(rows), len(columns)) <= 184
    assert lit[rows[2] : rows[-2], columns[2] : columns[-2]].all(), "no seams"


def test_the_truth_is_perfect_and_emptiness_is_what_an_empty_object_has(judge):
    truth = build(SCANS["dense"].settings()).truth
    whole = Image(truth.object, truth.pixel_m, truth.origin_m)
    best = judge.point(whole, 3600, 1.0)
    assert best is not None
    assert min(best.psnr_db) > 60
    empty = replace(whole, object=np.ones_like(truth.object))
    flat = judge.point(empty, 3600, 1.0)
    assert flat is not None
    assert flat.psnr_db == pytest.approx(flat.flat_db, abs=0.01)
    assert judge.point(whole, 1, 1.0) is None, "4 px are too few to be scored"


def test_moments_take_the_newest_snapshot_written_by_then(judge, tmp_path):
    """The stack as the service lays it out: NaN beyond the object, 0 if unwritten."""
    import h5py

    truth = build(SCANS["dense"].settings()).truth
    _, h, w = truth.object.shape
    path, began_s = tmp_path / "live_stack.h5", 1e9
    with h5py.File(path, "w") as file:
        planes = np.full((4, 300, 300), np.nan, np.complex64)
        planes[:3, :h, :w] = truth.object[0]
        file["object"] = planes
        times = [began_s + 10, began_s + 60, began_s + 70, 0]
        file["time"] = np.array(times)[:, None]
        file["exposures"] = np.array([700.0, 3600, 3600, 0])[:, None]
        file["pixel_size_m"] = np.tile(truth.pixel_m, (4, 1))
        file["origin_m"] = np.tile(truth.origin_m, (4, 1))
    moments = {"early": 5.0, LAST: 60.5, AFTER: 62.5}
    found = curve(judge, snapshots(path), began_s, moments, looks=7)
    assert [p.at_s for p in found.points] == [10, 60, 70]
    assert found.points[0].exposures == 700
    assert min(found.points[0].psnr_db) > 60
    assert found.at["early"] is None
    assert math.isnan(found.psnr_db("early")[0])
    assert found.at[LAST] is found.at[AFTER] is found.points[1]


@pytest.mark.parametrize(
    ("final", "reached"),
    [((27.0, 34.0), 12.0), ((17.5, 24.5), 4.0), ((16.0, 30.0), math.nan)],
)
def test_nine_tenths_of_what_was_gained_over_an_empty_object(final, reached):
    along = [point(4.0, 20.0, 33.5), point(12.0, 26.1, 33.2)]
    found = Curve(along, {}).reached_s(final, FLAT)
    assert found == pytest.approx(reached, nan_ok=True)


def test_claims_are_of_the_default_and_name_scan_and_field(tmp_path):
    scan = SCANS["half"]
    runs = [
        run(tmp_path, scan, "auto", (25.0, 31.0), (26.0, 31.5)),
        run(tmp_path, scan, "siren", (10.0, 10.0), (10.0, 10.0)),
        run(tmp_path, scan, "pixels", (21.0, 30.0), (27.0, 30.0), paired=63),
    ]
    memory = {"auto": Grown(Memory(510, 203), Memory(500, 201), frames_mib=25)}
    found = by_name(claims(runs, memory))
    better = found["half, auto: better than pixels 2 s later, amplitude"]
    assert (better.value, better.target, better.holds) == (4.0, 3.0, True)
    assert found["half, auto: better than pixels 2 s later, phase"].holds is False
    worst = found["half, auto: pixels better, at worst, amplitude"]
    assert (worst.value, worst.holds) == (1.0, False), "at the end"
    assert found["half, siren: pixels better, at worst, phase"].holds is None
    assert found["half, auto: offline over 2 s later, phase"].value == 5.0
    assert found["half, auto: offline over 2 s later, phase"].target is None
    assert found["half, pixels: frames lost"].holds is False
    assert not any("pixels: better" in name for name in found)
    peak = found["auto: a scan ten times longer: peak memory, over"]
    assert (peak.value, peak.holds) == (1.02, None)
    name = "auto: a scan ten times longer: growth over the size of its further frames"
    assert (found[name].value, found[name].holds) == (0.08, True)


def test_what_was_not_seen_holds_no_claim(tmp_path):
    scan = SCANS["half"]
    runs = [
        run(tmp_path, scan, field, (25.0, 31.0), (26.0, 31.5))
        for field in ("auto", "pixels")
    ]
    blind = replace(
        runs[0], curve=Curve(runs[0].curve.points, {LAST: None, AFTER: None})
    )
    found = by_name(claims([blind, runs[1]], {}))
    assert found["half, auto: pixels better, at worst, amplitude"].holds is False
    assert found["half, auto: better than pixels 2 s later, phase"].holds is False
    json.dumps(as_dict(blind, hurry=1.0), allow_nan=False)
    assert "- / -" in lines([blind])


def test_a_line_a_run_and_a_panel_a_scan(tmp_path):
    runs = [
        run(tmp_path, SCANS[name], field, (25.0, 31.0), (26.0, 31.5))
        for name in ("half", "sparse")
        for field in ("auto", "pixels")
    ]
    head, first, *_ = lines(runs).splitlines()
    assert head.split()[:2] == ["scan", "field"]
    assert first.split()[:2] == ["half", "auto"]
    assert "25.0 / 31.0" in first
    assert "0.0 / 0.0" in first, "over pixels"
    assert first.split()[-3:] == ["4.0", "0", "500"], "floors, lost, MiB"
    plot(runs, tmp_path / "live.png")
    assert (tmp_path / "live.png").read_bytes().startswith(b"\x89PNG")
    told = as_dict(runs[0], hurry=1.0)
    assert told["psnr_db"] == {LAST: [25, 31], AFTER: [25, 31], END: [26, 31.5]}
    assert told["simulate"] == SCANS["half"].flags()


def test_memory_is_that_of_the_whole_family():
    """A child that holds 64 MiB counts; one of which nothing is left does not."""
    child = "x = bytearray(64 << 20); print(flush=True); input()"
    parent = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        held = memory_of(process.pid)
        process.communicate(b"\n")
    assert 64 < held.own_mib < held.all_mib < 64 + 200
    assert memory_of(process.pid) == Memory(0, 0)
    assert Memory(3, 1).peak(Memory(2, 2)) == Memory(3, 2)


def bench(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.benchmarks", "live", *words]
    where = [f"--output={folder}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *where], cwd=ROOT, capture_output=True, text=True, env=environment
    )


@pytest.mark.system
def test_an_unknown_scan_is_named(tmp_path):
    done = bench("--only=half,nothing", folder=tmp_path)
    assert done.returncode == 2
    assert "half,nothing" in done.stderr


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.timeout(600)
def test_a_quick_scan_runs_through_real_processes(tmp_path):
    assert "half" in QUICK
    began_s = time.monotonic()
    done = bench("--quick", "--only=half", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "live.json").read_text())
    assert report["command"].endswith(f"live --quick --only=half --output={tmp_path}")
    assert report["machine"]["cpu"]
    assert report["seconds"] <= time.monotonic() - began_s + 1
    assert [run["field"] for run in report["runs"]] == ["auto", "pixels"]
    auto, pixels = report["runs"]
    for told in (auto, pixels):
        assert (told["frames_sent"], told["frames_lost"]) == (64, 0)
        assert told["last_frame_s"] == pytest.approx(3.0, abs=0.3)
        assert told["steps_live"] > 0
        assert told["peak_mib"] > told["peak_private_mib"] > 50
        times = [p["at_s"] for p in told["curve"]]
        assert times == sorted(times)
        assert -1 < times[0] < times[-1] < 30
    assert auto["offline"]["said"]["exposures"] == 64
    assert pixels["offline"] is None
    # An untuned claim of quality would be a race on a busy machine; emptiness is not.
    assert auto["psnr_db"]["end"][0] > auto["flat_db"][0]
    assert (tmp_path / "live.png").exists()
    assert "half" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1])["failed"] == {}
    assert not list(tmp_path.rglob("*.tape")), "what is large is not left behind"
    assert not list(tmp_path.rglob("*_stack.h5"))
