import math
import mmap

import numpy as np
import pytest
import torch

from ptystream.service import memory
from ptystream.service.memory import device_memory


def test_main_memory_grows_with_what_is_taken():
    device = torch.device("cpu")
    before, total = device_memory(device)
    taken = np.frombuffer(mmap.mmap(-1, 64 << 20), np.uint8)  # pages of its own
    taken[:] = 1
    after, same = device_memory(device)
    assert 0 < before < after < total == same
    assert after - before == pytest.approx(taken.nbytes, rel=0.5)


def test_a_system_that_does_not_tell(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "STATM", tmp_path / "none")
    assert all(math.isnan(part) for part in device_memory(torch.device("cpu")))


@pytest.mark.gpu
def test_a_gpu_tells_what_is_taken_by_anybody():
    taken = torch.ones(64 << 20, dtype=torch.uint8, device="cuda")
    used, total = device_memory(torch.device("cuda"))
    assert taken.nbytes <= used < total
