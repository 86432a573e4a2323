"""``tools/soak hours`` and ``load``: what they say of a service that is unwell."""

import math
import os
import subprocess
import sys

import pytest

from ptystream.errors import StoppedError
from tools.soaking.hours import GROWTH_MIB, thin, verdict
from tools.soaking.load import RECOVERY_S, Look, Scan
from tools.soaking.load import verdict as load_verdict
from tools.soaking.looks import NAMED, held, named_segments, processes, processor_s


def looks(**grows: float) -> list[dict]:
    """A soak of 200 looks; ``grows`` says what grows by how much a look."""
    steady = {"own_mib": 100, "shared_mib": 8, "files": 20, "threads": 9, "segments": 1}
    return [
        {
            "at_s": 5.0 * n,
            "processes": {
                "service": {k: v + n * grows.get(k, 0) for k, v in steady.items()}
            },
            **dict.fromkeys(("scans", "sent", "ended", "steps"), n),
            "refused": grows.get("refused", 0),
            "lost": {"messages_lost": 1} if "lost" in grows else {},
        }
        for n in range(200)
    ]


def test_what_stays_as_it_is_holds():
    said = verdict(looks(), 0, [])
    assert said["holds"]
    assert set(said["growth"]["service"].values()) == {0}


@pytest.mark.parametrize(
    "grows",
    [
        {"own_mib": GROWTH_MIB / 50},
        {"shared_mib": GROWTH_MIB / 50},
        {"files": 0.02},
        {"threads": 0.02},
        {"segments": 0.02},
        {"refused": 1},
        {"lost": 1},
    ],
)
def test_what_grows_or_is_lost_does_not(grows):
    assert not verdict(looks(**grows), 0, [])["holds"]


def test_memory_that_grows_before_it_settles_is_no_leak():
    seen = looks()
    for number, look in enumerate(seen):
        look["processes"]["service"]["own_mib"] += min(number, 40)
    assert verdict(seen, 0, [])["holds"]


def test_an_error_at_the_end_or_something_left_behind_does_not_hold():
    assert not verdict(looks(), 1, [])["holds"]
    assert not verdict(looks(), 0, ["process 7"])["holds"]


def test_too_few_looks_tell_nothing():
    with pytest.raises(StoppedError, match="too few"):
        verdict(looks()[:1], 0, [])


def test_the_newest_results_are_kept(tmp_path):
    for number in range(8):
        for kind in ("h5", "png"):
            path = tmp_path / f"{number}.{kind}"
            path.touch()
            os.utime(path, (number, number))
    thin(tmp_path)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == [f"{n}.{kind}" for n in (5, 6, 7) for kind in ("h5", "png")]


def test_what_a_process_holds_is_seen_from_outside():
    code = (
        "import os, sys, threading\n"
        "from multiprocessing import shared_memory\n"
        "os.ftruncate(os.memfd_create('ring'), 1 << 20)\n"
        "named = shared_memory.SharedMemory(create=True, size=4096)\n"
        "files = [open(os.devnull) for _ in range(7)]\n"
        "memory = b'x' * (64 << 20)\n"
        "threading.Thread(target=sys.stdin.read).start()\n"
        "print(flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        seen = held(child.pid)
        assert seen.segments == 1
        assert seen.files >= 3 + 7 + 1
        assert seen.threads >= 2
        assert 64 < seen.own_mib < 128
        assert processor_s([child.pid]) > 0
        found = processes(child.pid)
        assert found["service"] == child.pid
        (named,) = named_segments(found.values())
        assert named.parent == NAMED
        assert named.exists()
        child.communicate()
    gone = held(child.pid)
    assert (gone.own_mib, gone.files, gone.threads) == (0, 0, 0)


def overload(calm_at_s: float = 21.0, paired: int = 800, mib: float = 0.0) -> Scan:
    """An overload from 10 to 20 s, of a scan of 1,000 frames that ended at 40 s."""
    seen = [
        Look(t, 300 + mib * t, 3.0 if rough else 0.1, 1.0 if rough else 0.0, 0, rough)
        for t in range(40)
        for rough in [10 < t < calm_at_s]
    ]
    sent = {"frames": 1000, "parts_s": [0.0, 10.0, 20.0, 40.0]}
    frames = {"paired": paired, "lost": {"missing": 200, "backlog": 150, "dark": 0}}
    return Scan(sent, {"frames": frames}, seen)


def test_an_overload_that_passes_holds():
    scan = overload()
    assert (scan.uncounted, scan.used, scan.recovery_s) == (0, 650, 1.0)
    assert load_verdict(scan, 0)["holds"]


@pytest.mark.parametrize(
    "scan",
    [
        overload(calm_at_s=21 + RECOVERY_S),
        overload(calm_at_s=math.inf),
        overload(paired=790),
        overload(mib=10),
    ],
    ids=["slow", "never", "uncounted", "memory"],
)
def test_one_that_does_not_pass_or_is_not_counted_does_not(scan):
    assert not load_verdict(scan, 0)["holds"]


def test_who_dies_of_it_does_not_hold():
    assert not load_verdict(overload(), 1)["holds"]
