import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ptystream.sim.boxes import sample_batches


@given(st.integers(1, 12), st.integers(1, 10), st.integers(1, 50))
def test_batches_hold_every_sample_once_and_leave_late(frames, per_frame, batch):
    end_s = np.cumsum(np.random.default_rng(0).uniform(0.1, 1, frames))
    samples_m = np.arange(2.0 * frames * per_frame).reshape(-1, 2)
    sent = list(sample_batches("scan", samples_m, end_s, batch=batch, lag_s=0.5))
    assert np.array_equal(np.concatenate([s.position_m for _, s in sent]), samples_m)
    for due_s, samples in sent:
        assert np.array_equal(samples.position_m[0], samples_m[samples.first])
        assert samples.per_frame == per_frame
        last = samples.first + len(samples.position_m) - 1
        assert due_s == end_s[last // per_frame] + 0.5
