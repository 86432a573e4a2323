"""The bench's output is for machines, and its figures must not flatter."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.benchmarks.figures import Figure, interleaved, median, ratio, table

ROOT = Path(__file__).parents[1]
FIGURE_KEYS = {"name", "value", "unit", "target", "holds", "spread"}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.benchmarks", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.system
def test_the_last_line_is_the_report_and_the_table_says_the_same():
    done = run("core", "--quick", "--only=engine,receiver")
    assert done.returncode == 0, done.stderr
    *shown, last = done.stdout.splitlines()
    report = json.loads(last)
    assert report["suite"] == "core"
    assert report["machine"]["threads"] == 1
    assert report["machine"]["cpu"]
    assert report["commit"]
    names = [figure["name"] for figure in report["figures"]]
    assert [line.split("  ")[0] for line in shown[1:]] == names
    for figure in report["figures"]:
        assert set(figure) == FIGURE_KEYS
        assert figure["value"] > 0
        assert (figure["holds"] is None) == (figure["target"] is None)
    assert {"pixels step / fft floor", "receiver into ring / bare loop, raw"} < set(
        names
    )


def test_an_unknown_part_is_named():
    done = run("core", "--only=engine,nothing")
    assert done.returncode == 2
    assert "engine,nothing" in done.stderr


def test_tasks_take_turns_and_the_first_round_is_not_measured():
    order: list[str] = []
    tasks = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = interleaved(tasks, repeats=2, calls=2)
    assert "".join(order) == "aabb" * 3
    assert [len(seconds[name]) for name in "ab"] == [2, 2]


def test_a_ratio_is_the_median_of_rounds_not_of_sums():
    """One disturbed round, slow for both, changes nothing."""
    found = ratio("r", [2, 2, 200, 4], [1, 1, 100, 1], target=1.5)
    assert found.value == 2
    assert found.holds is False
    assert found.spread == (2, 2.5)


@pytest.mark.parametrize(
    ("bound", "target", "holds"),
    [
        ("at most", 3, True),
        ("at most", 2, True),
        ("at most", 1, False),
        ("at least", 3, False),
        ("at least", 1, True),
        ("at least", None, None),
    ],
)
def test_a_target_holds_on_its_own_side(bound, target, holds):
    assert Figure("f", 2.0, "x", target, bound).holds is holds


def test_what_was_not_measured_is_null_and_holds_no_target():
    figure = Figure("f", float("nan"), "x", 4.0)
    assert json.loads(json.dumps(figure.as_dict(), allow_nan=False))["value"] is None
    assert figure.holds is False
    assert "-" in table([figure])


def test_the_table_shows_target_and_verdict():
    shown = table([median("rate", [1, 2, 3], "Hz"), Figure("f", 5, "x", 4.0)])
    assert "1.5 to 2.5" in shown.splitlines()[1]
    assert shown.splitlines()[2].split()[-4:] == ["at", "most", "4", "no"]


@pytest.mark.slow
@pytest.mark.system
def test_a_longer_scan_takes_no_more_memory():
    done = run("load", "--quick", "--only=longer", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["figures"]
    assert figures[-1]["name"].endswith("of 3 stores / of 1")
    assert figures[-1]["holds"], figures
