import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.service.pixel_lag import DRAWN, KEPT, PixelLags


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def lags(now):
    return PixelLags(clock=lambda: now[0])


def test_a_frame_is_seen_in_the_first_picture_drawn_after_it(lags, now):
    lags.took(1.0)
    lags.drew("a", 5)
    lags.took(2.0)
    now[0] = 3.0
    lags.shown("a", 5)
    assert lags.take() == [2.0]
    lags.drew("a", 6)
    now[0] = 4.0
    lags.shown("a", 6)
    assert lags.take() == [2.0]
    lags.shown("a", 6)
    assert lags.take() == []


def test_a_picture_stands_for_those_that_it_overtook(lags, now):
    for step in (1, 2, 3):
        lags.took(0.0)
        lags.drew("a", step)
    now[0] = 1.0
    lags.shown("a", 2)
    assert lags.take() == [1.0, 1.0]


def test_a_snapshot_without_a_step_since_shows_nothing_new(lags, now):
    lags.drew("a", 4)
    lags.took(0.0)
    lags.drew("a", 4)
    lags.shown("a", 4)
    assert lags.take() == []
    lags.drew("a", 5)
    lags.shown("a", 5)
    assert lags.take() == [0.0]


def test_the_last_picture_of_a_run_shows_nothing_of_the_next(lags):
    lags.took(0.0)
    lags.drew("a", 9)
    lags.forget()
    lags.took(0.0)
    lags.took(0.0)
    lags.drew("b", 2)
    lags.shown("a", 20)
    assert lags.take() == [0.0]
    lags.shown("b", 2)
    assert lags.take() == [0.0, 0.0]


def test_what_was_never_drawn_is_forgotten_with_its_run(lags):
    lags.took(0.0)
    lags.forget()
    lags.drew("b", 1)
    lags.shown("b", 1)
    assert lags.take() == []


def test_a_preview_that_hangs_costs_the_oldest(lags):
    for step in range(1, DRAWN + 6):
        lags.took(0.0)
        lags.drew("a", step)
    lags.shown("a", 1000)
    assert len(lags.take()) == DRAWN
    for _ in range(KEPT + 5):
        lags.took(0.0)
    lags.drew("a", 1001)
    lags.shown("a", 1001)
    assert len(lags.take()) == KEPT


@given(st.lists(st.sampled_from(["took", "drew", "shown"]), max_size=60))
def test_no_frame_is_seen_twice(calls):
    lags, taken, step = PixelLags(), 0, 0
    seen = []
    for call in calls:
        if call == "took":
            lags.took(0.0)
            taken += 1
        elif call == "drew":
            step += 1
            lags.drew("a", step)
        else:
            lags.shown("a", step)
        seen += lags.take()
    assert len(seen) <= taken
    lags.drew("a", step + 1)
    lags.shown("a", step + 1)
    assert len(seen + lags.take()) == taken
