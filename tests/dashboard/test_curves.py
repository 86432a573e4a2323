import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ptystream.dashboard.curves import COLUMNS, Curves


def status(time_s, *, run="r", received=0, **more):
    frames = {"received": received, "lost": {"missing": 1, "late": 2}}
    return {
        "run": run,
        "started_s": 100.0,
        "time": 100.0 + time_s,
        "frames": frames,
    } | more


def test_a_row_holds_what_a_status_says_in_the_units_of_its_name():
    curves = Curves()
    quality = {"held_out_error": 0.2, "resolution_m": 12e-9, "loss": None}
    curves.add(status(1.0, quality=quality, lag_s=0.03))
    row = {name: column[0] for name, column in curves.columns().items()}
    assert row["time_s"] == 1.0
    assert row["held_out_error"] == 0.2
    assert math.isclose(row["resolution_nm"], 12)
    assert math.isclose(row["lag_ms"], 30)
    assert row["lost"] == 3
    assert math.isnan(row["loss"])


def test_the_rate_counts_frames_over_a_second_or_more():
    curves = Curves()
    for tenth in range(31):
        curves.add(status(tenth / 10, received=20 * tenth))
    assert math.isclose(curves.frames_per_s, 200)
    curves.add(status(5.0, received=600))
    assert math.isclose(curves.frames_per_s, 200)  # told late, it may be
    curves.add(status(6.0, received=600))
    assert curves.frames_per_s == 0


def test_another_run_begins_anew_and_none_adds_nothing():
    curves = Curves()
    curves.add(status(1.0))
    curves.add({"run": None, "started_s": None})
    assert len(curves.columns()["time_s"]) == 1
    curves.add(status(0.5, run="other"))
    assert curves.columns()["time_s"].tolist() == [0.5]


@given(st.integers(2, 40), st.integers(1, 400))
def test_rows_are_bounded_span_the_run_and_keep_their_order(most, messages):
    curves = Curves(most)
    for i in range(messages):
        curves.add(status(float(i)))
    times = curves.columns()["time_s"]
    assert len(times) <= most
    assert times[0] == 0
    assert (np.diff(times) > 0).all()
    assert messages - 1 - times[-1] <= max(1, 2 * messages / most)
    assert set(curves.columns()) == set(COLUMNS)
