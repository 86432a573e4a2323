"""Who leads: rounds, verdicts, what is published meanwhile, and scans that go on."""

import math
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import pytest
import torch

from ptystream.models.field import Box
from ptystream.models.pixels import Pixels
from ptystream.recon.build import (
    object_field,
    object_hold,
    object_learner,
    plain_learner,
    probe_learner,
    probe_pixels,
)
from ptystream.recon.contest import CLEAR, SHORT, Contest, Side, Verdict, left
from ptystream.recon.learners import Learner
from ptystream.recon.options import (
    EngineOptions,
    NuisanceOptions,
    ObjectOptions,
    ProbeOptions,
    ReconOptions,
)
from ptystream.recon.reconstruction import Reconstruction, Setting
from tests.recon.general_scan import GeneralScan
from tests.recon.small_scan import SIZE, SmallScan

CPU, OPTIONS = torch.device("cpu"), ReconOptions()
BOX, FRAME = Box(-3, 4, 20, 24), Box(0, 0, 8, 8)
FIRST = 5
PIXEL_M = (2e-8, 2e-8)


@dataclass
class Ring:
    """Sides that never learn, an engine that only counts, and a judge that is told.

    ``errors`` are those of plain and of smooth pixels; ``turns`` says step by step who
    was to learn, ``calls`` who was judged by what.
    """

    plain_error: float
    smooth_error: float
    steps: int = 0
    seen: int = 100
    turns: list[str] = field(default_factory=list)
    calls: list[tuple[str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        hold = object_hold(OPTIONS)
        first = torch.ones(1, 8, 8) + 0j
        objects = object_learner(object_field(OPTIONS, CPU, hold), OPTIONS, hold)
        self.smooth = Side(objects, probe_learner(probe_pixels(first), OPTIONS, first))
        self.objects: Learner = self.smooth.objects
        self.probe: Learner = self.smooth.probes
        self.contest = Contest(
            self.smooth, lambda: plain_learner(OPTIONS, CPU, hold), first=FIRST
        )

    def judge(self, side: Side, judges: np.ndarray | None) -> Verdict:
        kind = "plain" if side.plain else "smooth"
        self.calls.append((kind, judges))
        error = self.plain_error if side.plain else self.smooth_error
        return Verdict(error, 0.0, np.arange(3) if judges is None else judges)

    def go(self, steps: int) -> list[int]:
        """Take steps; return those after which another led."""
        won = []
        for _ in range(steps):
            kind = "plain" if isinstance(self.objects.field, Pixels) else "smooth"
            self.turns.append(kind)
            self.steps += 1
            if self.contest.advance(self, BOX, self.judge, self.seen):
                won.append(self.steps)
        return won

    def rounds(self) -> list[tuple[str, int]]:
        """Return who learned how long, one after the other."""
        return [(kind, len(list(run))) for kind, run in groupby(self.turns)]


def test_rounds_come_at_twice_the_steps_and_give_both_as_many():
    ring = Ring(plain_error=1.0, smooth_error=1.0)
    assert ring.go(130) == []
    assert ring.rounds() == [
        ("smooth", 5),
        ("plain", 5),  # then five for the leader, and five until step 20
        ("smooth", 10),
        ("plain", 5),
        ("smooth", 15),
        ("plain", 10),
        ("smooth", 30),
        ("plain", 20),
        ("smooth", 30),
    ]
    # At the end of each round challengers have had a third of all steps at most.
    for end in (15, 30, 60, 120):
        assert ring.turns[:end].count("plain") <= end / 3


def test_more_exposures_are_a_reason_for_a_short_round():
    """The first rows, and a pause: smooth pixels led them, and don't lead the rest."""
    ring = Ring(plain_error=1.0, smooth_error=1.0)
    assert ring.go(1100) == []  # the next round is at 1280
    turns, ring.plain_error = len(ring.turns), 0.1
    ring.seen = 149
    assert ring.go(3) == []
    ring.seen = 150
    assert ring.go(2 * SHORT + 1) == [turns + 3 + 2 * SHORT + 1]
    assert ring.turns[turns:].count("plain") == SHORT


@pytest.mark.parametrize(("into", "given_up"), [(10, True), (100, True), (150, False)])
def test_a_long_turn_is_given_up_for_exposures_that_come_meanwhile(into, given_up):
    ring = Ring(plain_error=1.0, smooth_error=1.0)
    assert ring.go(1280 + into) == []  # a round of 200 steps each begins at 1280
    turns, ring.plain_error = len(ring.turns), 0.1
    assert ring.turns[-into:].count("plain") == into
    ring.seen = 150
    (led,) = ring.go(400)
    rest = into + 1 + SHORT  # as long as the turn was, and a short one's rest
    assert led - turns == (1 + rest + 2 * SHORT if given_up else 400 - into)
    tried = ring.turns[1280:led].count("plain")
    assert tried == (into + 1 + SHORT if given_up else 200)


def test_however_a_scan_grows_challengers_have_a_third_at_most():
    still, ring = (Ring(plain_error=1.0, smooth_error=1.0, seen=8) for _ in range(2))
    still.go(700)
    for step in range(700):
        ring.go(1)
        ring.seen = 8 * 4 ** (step // 50)  # a pause, and many at once, again and again
    plain, by_steps = (
        [length for kind, length in each.rounds() if kind == "plain"]
        for each in (ring, still)
    )
    assert len(plain) > len(by_steps)
    ends = np.cumsum([length for _, length in ring.rounds()])[1::2]
    for end, length in zip(ends, plain, strict=False):
        # the leader has had its turn of the round as well
        assert ring.turns[: end + length].count("plain") <= (end + length) / 3


def test_both_are_judged_at_the_end_by_the_same_frames():
    ring = Ring(plain_error=1.0, smooth_error=1.0)
    ring.go(3 * FIRST)
    (_, first), *others = ring.calls
    assert first is None
    assert [kind for kind, _ in others] == ["plain", "smooth"]
    assert others[0][1] is others[1][1] is not None


def test_plain_pixels_that_win_again_by_far_stay_without_rounds():
    ring = Ring(plain_error=0.2, smooth_error=1.0)
    assert ring.go(200) == [15]
    # the second round is at step 20, and smooth pixels are the challengers
    assert ring.rounds() == [
        ("smooth", 5),
        ("plain", 5),
        ("smooth", 5),
        ("plain", 5),
        ("smooth", 5),
        ("plain", 175),
    ]
    assert len(ring.calls) == 6


def test_plain_pixels_that_win_by_less_are_tried_again():
    ring = Ring(plain_error=0.5, smooth_error=1.0)
    assert ring.go(45) == [15]
    assert ring.turns[40] == "smooth"


def test_smooth_pixels_win_back_as_they_were_and_the_next_challenger_is_new():
    ring = Ring(plain_error=0.5, smooth_error=1.0)
    ring.go(15)
    one = ring.contest.leader.objects
    assert isinstance(one.field, Pixels)
    ring.smooth_error = 0.5  # no longer clearly worse
    assert ring.go(20) == [30]
    assert ring.contest.leader.objects is ring.smooth.objects is ring.objects
    ring.go(10)
    assert isinstance(ring.objects.field, Pixels)
    assert ring.objects is not one


def test_a_challenger_begins_where_the_leader_stands():
    ring = Ring(plain_error=1.0, smooth_error=1.0)
    canvas = ring.smooth.objects.field.inner.canvas
    ring.smooth.objects.field.cover(BOX)
    canvas.values.normal_(std=0.2, generator=torch.Generator().manual_seed(0))
    ring.go(FIRST)
    assert isinstance(ring.objects.field, Pixels)
    with torch.no_grad():
        made = ring.objects.field.window(BOX)
        assert (made - 1).abs().max() > 0.1
        torch.testing.assert_close(made, ring.smooth.objects.field.window(BOX))
        assert torch.equal(
            ring.probe.field.window(FRAME), ring.smooth.probes.field.window(FRAME)
        )


@pytest.mark.parametrize("wins", [True, False])
def test_each_side_keeps_its_own_probe(wins):
    ring = Ring(plain_error=0.5 if wins else 1.0, smooth_error=1.0)
    ring.go(FIRST)
    tried = ring.probe
    assert tried is not ring.smooth.probes
    tried.field.write(FRAME, torch.full((1, 8, 8), 7j))
    with torch.no_grad():
        assert (ring.smooth.probes.field.window(FRAME) == 1).all()
    ring.go(FIRST)
    assert ring.probe is ring.smooth.probes
    ring.go(FIRST)
    assert ring.probe is (tried if wins else ring.smooth.probes)


@pytest.mark.parametrize(
    ("plain", "smooth", "noise", "wins"),
    [
        (0.69, 1.0, 0.0, True),
        (0.71, 1.0, 0.0, False),
        (0.71, 1.0, 0.5, True),  # 0.21 of 0.5, once the noise is off
        (0.9, 1.0, 0.5, False),
        (0.5, 1.0, 99.0, True),  # more noise than error: counts are no photons
        (1.0, 1.02, 99.0, False),
        (math.nan, 1.0, 0.1, False),
        (0.1, math.nan, 0.1, False),
        (0.1, 1.0, math.nan, False),
    ],
)
def test_plain_pixels_must_leave_clearly_less_unexplained(plain, smooth, noise, wins):
    none = np.arange(0)
    told = Verdict(plain, noise, none), Verdict(smooth, noise, none)
    assert (left(*told) < CLEAR) is wins


def test_without_a_verdict_whoever_leads_goes_on():
    ring = Ring(plain_error=math.nan, smooth_error=math.nan)
    assert ring.go(50) == []
    assert ring.objects is ring.smooth.objects
    ring = Ring(plain_error=0.5, smooth_error=1.0)
    ring.go(15)
    ring.plain_error = ring.smooth_error = math.nan  # the judges are gone
    assert ring.go(20) == []
    assert isinstance(ring.objects.field, Pixels)
    ring.smooth_error, ring.plain_error = 0.5, 0.6  # and it is tried again
    assert ring.go(30) == [60]


def test_a_leader_that_is_not_finite_is_replaced():
    ring = Ring(plain_error=0.5, smooth_error=1.0)
    ring.go(15)
    ring.plain_error = math.nan
    assert ring.go(20) == [30]


def auto(steps: int = 10) -> ObjectOptions:
    return ObjectOptions(field="auto", contest_steps=steps)


def a_reconstruction(scan: SmallScan, *, steps: int = 10, **engine) -> Reconstruction:
    told = {"batch": 16, "held_out": 0.15, **engine}
    return Reconstruction(
        Setting(SIZE, PIXEL_M, torch.from_numpy(scan.probe)[None]),
        ReconOptions(object=auto(steps), engine=EngineOptions(**told)),
    )


def test_what_is_published_is_the_leader_s_while_a_challenger_learns():
    scan = SmallScan()
    recon = a_reconstruction(scan)
    for i, (counts, at) in enumerate(
        zip(scan.counts(2e5), scan.centres_px, strict=True)
    ):
        recon.add(i, counts, tuple(at * PIXEL_M))
    shown, trying = [], []
    for _ in range(30):
        recon.step()
        shown.append(recon.snapshot())
        trying.append(recon.trying)
    assert trying == [10 <= n < 20 for n in range(1, 31)]
    stood, after = shown[9], shown[10:19]
    for snapshot in after:
        np.testing.assert_array_equal(snapshot.object, stood.object)
        np.testing.assert_array_equal(snapshot.probe, stood.probe)
        assert snapshot.quality.held_out_error == stood.quality.held_out_error
    assert shown[25].quality.held_out_error != stood.quality.held_out_error


def test_a_scan_may_grow_while_a_challenger_learns():
    """Its canvas holds what arrives meanwhile."""
    scan = SmallScan(lines=12, step=8)
    recon = a_reconstruction(scan, steps=40)
    counts, grown = scan.counts(2e5), set()
    for i, at in enumerate(scan.centres_px):
        recon.add(i, counts[i], tuple(at * PIXEL_M))
        assert (recon.step() is None) == (i < 7)
        if recon.trying:
            grown.add(recon.engine.objects.field.canvas.box)
    assert len(grown) > 1


def test_judges_that_were_evicted_meanwhile_count_for_neither():
    """Slots are used again, by frames that may be trained on: no verdict at all."""
    scan = SmallScan(lines=12)
    recon = a_reconstruction(scan, steps=20, store=24)
    counts, judged = scan.counts(2e5), []
    judge = recon.predictor.judged

    def watched(side, judges):
        verdict = judge(side, judges)
        judged.append((judges, verdict))
        return verdict

    recon.predictor.judged = watched
    for i, at in enumerate(scan.centres_px):
        recon.add(i, counts[i], tuple(at * PIXEL_M))
        recon.step()
    first, plain, smooth = judged[:3]
    assert first[0] is None
    asked, left = set(plain[0]), set(plain[1].judges)
    assert left < asked
    assert left == set(smooth[1].judges)
    assert all(recon.store.held_out[recon.store.order == n].all() for n in left)


def test_rounds_wait_until_the_probe_is_released():
    scan = SmallScan()
    recon = a_reconstruction(scan)
    counts = scan.counts(2e5)
    for i in range(9):  # a line and a half: 4 px wide
        recon.add(i, counts[i], tuple(scan.centres_px[i] * PIXEL_M))
    for _ in range(25):
        recon.step()
        assert not recon.trying
    for i in range(9, 36):
        recon.add(i, counts[i], tuple(scan.centres_px[i] * PIXEL_M))
    recon.step()
    assert recon.trying


def test_without_held_out_frames_smooth_pixels_stay():
    scan = SmallScan()
    recon = a_reconstruction(scan, steps=5, held_out=0.0)
    for i, at in enumerate(scan.centres_px):
        recon.add(i, scan.counts(2e5)[i], tuple(at * PIXEL_M))
    for _ in range(40):
        recon.step()
    assert not isinstance(recon.object, Pixels)


def test_positions_may_move_while_a_challenger_learns():
    """Frames may look beside their patches: a challenger's canvas has that margin."""
    off = 0.7 * np.random.default_rng(0).normal(size=(36, 2))
    recon = GeneralScan(off_px=off).reconstruction(
        object=auto(),
        nuisance=NuisanceOptions(positions="frames", after_steps=0),
        engine=EngineOptions(batch=16, held_out=0.15),
    )
    for _ in range(35):
        assert torch.isfinite(recon.step().loss)


@pytest.mark.parametrize("adam", ["quick", "published"])
@pytest.mark.parametrize("known", [True, False])
def test_a_probe_s_network_is_copied_for_the_challenger(known, adam):
    recon = GeneralScan().reconstruction(
        object=auto(),
        probe=ProbeOptions(field="hashgrid", pretrain_steps=5, known=known),
        engine=EngineOptions(batch=16, held_out=0.15, adam=adam),
    )
    made = []
    for _ in range(20):
        recon.step()
        with torch.no_grad():
            made.append(
                [
                    side.field.window(recon._frame).clone()
                    for side in (recon.stages.probes, recon.engine.probe)
                ]
            )
    (stood, tried), (_, last) = made[9], made[18]
    assert torch.equal(stood, tried)
    assert torch.equal(made[18][0], stood)
    assert torch.equal(last, tried) is known


def test_rounds_wait_for_the_probe_s_network_which_pixels_teach():
    """A warm-up is the networks' alone: smooth pixels learn from the first step."""
    o = ObjectOptions(contest_steps=5, warmup_steps=15, pretrain_steps=5)
    recon = GeneralScan().reconstruction(
        object=o, probe=ProbeOptions(field="hashgrid", pretrain_steps=10)
    )
    turns = []
    for _ in range(30):
        assert not isinstance(recon.object, Pixels)
        turns.append((isinstance(recon.probe, Pixels), recon.trying))
        recon.step()
    assert turns == [(n < 15, 16 <= n < 21) for n in range(30)]


def test_modes_are_made_orthogonal_of_whoever_learns():
    scan = GeneralScan(modes=2)
    first = scan.probes.copy()
    first[1] += 0.5 * first[0]
    recon = scan.reconstruction(
        object=auto(4), probe=ProbeOptions(modes=2, orthogonal_steps=6), first=first
    )
    for _ in range(6):
        recon.step()
    assert recon.trying
    with torch.no_grad():
        one, two = recon.engine.probe.field.window(recon._frame)
        assert abs(torch.vdot(one.flatten(), two.flatten())) < 1e-3
