"""Frames reach a device whole and in order, whatever the device is busy with."""

import numpy as np
import pytest
import torch

from ptystream.buffers.staging import DEPTH
from ptystream.buffers.store import FrameStore

pytestmark = pytest.mark.gpu


def frame(value: int) -> np.ndarray:
    return np.full((64, 64), value, np.uint16)


def test_more_frames_than_may_be_under_way_arrive_whole():
    store = FrameStore(4 * DEPTH, 64, held_out_share=0, device="cuda")
    for index in range(4 * DEPTH):
        store.put(index, frame(index), np.array([index, 0.0]))
    got = store.amplitude(torch.arange(4 * DEPTH, device="cuda")).square()
    wanted = torch.arange(4.0 * DEPTH, device="cuda")[:, None, None].expand_as(got)
    torch.testing.assert_close(got, wanted)


def test_a_slot_is_used_again_only_after_steps_have_read_it():
    store = FrameStore(1, 64, held_out_share=0, device="cuda")
    store.put(0, frame(1), np.zeros(2))
    slot = torch.zeros(1, dtype=torch.int64, device="cuda")
    busy = torch.randn(4096, 4096, device="cuda")
    for value in range(2, 30):
        for _ in range(4):
            busy = (busy @ busy).tanh()
        read = store.amplitude(slot).square()
        store.put(value, frame(value), np.zeros(2))
        assert read.max().item() == pytest.approx(value - 1, rel=1e-5)
        assert read.min().item() == pytest.approx(value - 1, rel=1e-5)


def test_taking_a_frame_does_not_wait_for_the_device():
    store = FrameStore(2 * DEPTH, 64, held_out_share=0, device="cuda")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for index in range(DEPTH):
            store.put(index, frame(index), np.zeros(2))
    finally:
        torch.cuda.set_sync_debug_mode("default")
