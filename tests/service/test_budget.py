"""The engine's share of the time while a scan runs."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.service.budget import Budget
from tests.service.test_reconstructing import bench, closed, whole

__all__ = ["bench"]
SECONDS = 1.0


@given(st.floats(0.01, 1), st.lists(st.floats(1e-3, 10), min_size=1, max_size=50))
def test_steps_of_any_length_take_their_share_of_the_time(share, steps_s):
    budget, now_s = Budget(share), 0.0
    for took_s in steps_s:
        now_s += took_s
        budget.spent(now_s, took_s)
        now_s += budget.rest_s(now_s)
    assert sum(steps_s) / now_s == pytest.approx(share)


def test_time_without_a_step_is_not_made_up_for():
    budget = Budget(0.5)
    budget.spent(100.0, 1.0)
    assert budget.rest_s(1000.0) == 0
    budget.spent(1001.0, 1.0)
    assert budget.rest_s(1001.0) == 1


def test_without_a_share_there_is_no_first_step():
    assert Budget(0.0).rest_s(0.0) == math.inf


def steps_within(engine, seconds: float) -> int:
    """Return how many steps the engine takes in so much time."""
    before = engine.state.steps
    time.sleep(seconds)
    return engine.state.steps - before


def test_with_a_fifth_of_the_time_there_are_far_fewer_steps(bench):
    """The same scan in the same process; the second has a fifth of the first's time."""
    taken = []
    for share in (1.0, 0.2):
        b = bench(f"engine.budget={share}")
        b.backlog.put(whole()[:-1])
        b.until(lambda b=b: b.engine.state.steps > 0)
        taken.append(steps_within(b.engine, SECONDS))
        b.engine.finish(20)
    full, fifth = taken
    assert 0 < fifth < 0.5 * full


def test_without_a_budget_exposures_are_stored_and_learned_after_the_last(bench):
    b = bench("engine.budget=0", "refine.max_s=0.5")
    b.backlog.put(whole()[:-1])
    b.until(lambda: b.engine.state.store_frames == 36)
    assert steps_within(b.engine, 0.3) == 0
    assert b.engine.state.phase == "live"
    b.backlog.put([closed()])
    (end,) = b.ended()
    b.until(lambda: bool(b.notes.stops))
    snapshot, _, told = b.notes.stops[0]
    assert end.kept
    assert snapshot.step > 0
    assert told.refined == "the limit of 0.5 s"
