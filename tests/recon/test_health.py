import logging
import math

import numpy as np
import pytest
import torch

from ptystream.recon.exposures import Exposures
from ptystream.recon.health import DEARER, Health
from ptystream.recon.health_score import Misses, score, tied
from ptystream.recon.hypotheses import AS_TOLD, Hypothesis, scaled
from ptystream.recon.options import (
    EngineOptions,
    ObjectOptions,
    PhysicsOptions,
    ReconOptions,
)
from ptystream.recon.options_health import HealthOptions
from ptystream.recon.reconstruction import Reconstruction
from ptystream.recon.setting import Setting
from tests.recon.small_scan import SIZE, SmallScan

SWAPPED = Hypothesis(matrix=((0, 1), (1, 0)))
FEW = (
    Hypothesis(lag=-1),
    Hypothesis(lag=2),
    SWAPPED,
    Hypothesis(matrix=((-1, 0), (0, 1))),
    scaled(1.25, 1.25),
)
LINES = 11
SCAN = SmallScan(lines=LINES, step=3)
SNAKE = np.concatenate(
    [np.arange(LINES)[:: 1 - 2 * (i % 2)] + LINES * i for i in range(LINES)]
)
COUNTS = SCAN.counts(1e5)[SNAKE]
PLACES = SCAN.centres_px[SNAKE].astype(float)
PROBE = torch.from_numpy(SCAN.probe).to(torch.complex64)[None]


def late(frames: int) -> np.ndarray:
    """Positions as encoders tell them that lag; at the start they stand."""
    return PLACES[(np.arange(len(PLACES)) - frames).clip(0)]


FAULTS = {
    "": PLACES,
    "positions lag": late(2),
    "axes swapped": PLACES[:, ::-1],
    "axis mirrored": PLACES * [-1, 1],
    "wrong scale": PLACES / 1.25,
}

SAID = {
    "positions lag": "positions of 2 frames later: add 2 to positions.lag, or start",
    "axes swapped": "detector.preprocess.transpose",
    "axis mirrored": "-positions.y.scale_m",
    "wrong scale": "positions 1.2",
}


def setting() -> Setting:
    return Setting(SIZE, (1.0, 1.0), PROBE)


def health_of(places: np.ndarray, options: ReconOptions, few=FEW) -> Health:
    exposures = Exposures(setting(), options, None, torch.device("cpu"))
    for index, place in enumerate(places):
        exposures.add(index, COUNTS[index], tuple(place), None, math.nan)
    return Health(exposures, options, few)


def judged(health: Health, *, rounds: int = 1) -> Health:
    """Let it end so many rounds, as if the engine never predicted anything."""
    for _ in range(10_000):
        health.look(math.nan, PROBE)
        if health.rounds == rounds and not health.busy:
            return health
        health.advance(1000)
    raise AssertionError("no end")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_and_a_clean_scan_is_not(fault, caplog):
    health = judged(health_of(FAULTS[fault], ReconOptions()))
    assert [f.fault for f in health.findings] == ([fault] if fault else [])
    told = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(told) == bool(fault)
    if fault:
        (found,) = health.findings
        assert found.sure > 0.8
        assert found.detail.startswith("frames fit ")
        assert SAID[fault] in found.detail
        assert found.detail in told[0].getMessage()


def test_the_same_steps_give_the_same_finding():
    lag = [Hypothesis(lag=2)]
    made = [judged(health_of(late(2), ReconOptions(), lag)) for _ in range(2)]
    assert made[0].findings == made[1].findings != ()


def test_trials_of_poor_data_go_on_sooner_where_nobody_waits():
    def steps(explained: float, *, patient: bool) -> int:
        health = health_of(late(2), ReconOptions(), [Hypothesis(lag=2)])
        health.look(explained, PROBE)
        taken = 0
        while health.busy:
            assert health.pressing == (explained < 0.9)
            health.advance(16, patient=patient)
            health.look(explained, PROBE)
            taken += 1
        return taken

    poor = steps(0.1, patient=False)
    assert steps(0.1, patient=True) < 0.5 * poor
    assert steps(0.99, patient=True) > poor


def test_what_no_longer_holds_is_taken_back():
    health = judged(health_of(FAULTS["axes swapped"], ReconOptions(), [SWAPPED]))
    assert health.findings
    exposures = vars(health)["_exposures"]
    store = exposures.store
    store.position_px[: store.frames] = PLACES
    exposures.count *= 2  # as many again have come: another round is due
    assert not judged(health, rounds=2).findings


@pytest.mark.parametrize(
    "options",
    [
        ReconOptions(health=HealthOptions(enabled=False)),
        ReconOptions(physics=PhysicsOptions(model="near", fresnel_number=0.01)),
        ReconOptions(health=HealthOptions(frames=200)),
    ],
    ids=["off", "near field", "too few"],
)
def test_where_there_is_no_trial(options):
    health = health_of(late(2), options)
    for _ in range(3):
        health.look(math.nan, PROBE)
        health.advance(1000)
    assert health.rounds == 0


def test_a_good_reconstruction_is_tried_once_alone():
    health = health_of(PLACES, ReconOptions(), [SWAPPED])
    health.look(0.99, PROBE)
    while health.busy:
        health.advance(1000)
        health.look(0.99, PROBE)
    vars(health)["_exposures"].count *= 4
    health.look(0.99, PROBE)
    assert health.rounds == 1
    health.look(0.2, PROBE)
    assert health.rounds == 2


@pytest.mark.parametrize(("explained", "share"), [(0.99, 0.1), (0.2, 0.3)])
def test_trials_take_their_share_and_no_more(explained, share):
    health = health_of(PLACES, ReconOptions())
    health.look(explained, PROBE)
    running, taken = vars(health)["_round"], []
    step = running.advance
    running.advance = lambda: taken.append(step()) or taken[-1]
    for _ in range(50):
        health.advance(64)
    assert DEARER * sum(taken) == pytest.approx(share * 50 * 64, abs=40)


def test_the_engine_does_not_notice():
    """The object is bit for bit what it is without trials."""
    made = []
    for enabled in (True, False):
        options = ReconOptions(
            object=ObjectOptions(field="pixels"),
            engine=EngineOptions(batch=16),
            health=HealthOptions(enabled=enabled),
        )
        recon = Reconstruction(setting(), options)
        for index, place in enumerate(PLACES):
            recon.add(index, COUNTS[index], tuple(place))
        for _ in range(120):
            recon.step(live=False)
        snapshot = recon.snapshot()
        assert snapshot is not None
        assert recon.health.rounds == enabled
        made.append(snapshot.object)
    assert (made[0] == made[1]).all()


def misses(error: list[float], noise: float = 0.0) -> Misses:
    many = np.array(error)
    return Misses(many, np.full(len(many), 4.0), np.full(len(many), noise))


def test_a_score_is_what_goes_away_but_for_noise():
    got = score(SWAPPED, misses([2.0, 2.2]), misses([1.0, 1.2], noise=0.6))
    assert got.gain == pytest.approx(1.0 / 1.5)
    assert got.left == pytest.approx(0.5 / 3.4)
    assert got.sure == 1.0
    same = score(AS_TOLD, misses([1.0, 2.0]), misses([1.0, 2.0]))
    assert (same.gain, same.sigmas, same.sure) == (0.0, 0.0, 0.0)


def test_hypotheses_within_the_scatter_are_tied():
    told = misses([3.0, 3.1, 2.9, 3.0])
    one = score(SWAPPED, told, misses([1.0, 1.1, 0.9, 1.0]))
    close = score(SWAPPED, told, misses([1.1, 1.0, 1.0, 0.95]))
    worse = score(SWAPPED, told, misses([1.5, 1.55, 1.4, 1.5]))
    assert tied(one, close)
    assert not tied(one, worse)


def test_lost_indices_do_not_stop_it():
    options = ReconOptions()
    exposures = Exposures(setting(), options, None, torch.device("cpu"))
    kept = np.random.default_rng(3).random(len(PLACES)) > 0.1
    for index in np.flatnonzero(kept):
        place = tuple(FAULTS["axis mirrored"][index])
        exposures.add(int(index), COUNTS[index], place, None, math.nan)
    health = judged(Health(exposures, options, FEW))
    assert [f.fault for f in health.findings] == ["axis mirrored"]
