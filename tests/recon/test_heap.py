import platform
import resource

import pytest
import torch

from ptystream.recon.heap import keep_freed_memory

PIECES, PIECE_BYTES = 48, 2 << 20
PAGES = PIECES * PIECE_BYTES // 4096


def faults_of_a_step() -> int:
    """Count page faults while 96 MB are taken, written and freed, as tensors are."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    parts = [torch.ones(PIECE_BYTES, dtype=torch.uint8) for _ in range(PIECES)]
    del parts
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_used_again_without_faults():
    assert keep_freed_memory()
    faults_of_a_step()
    assert sum(faults_of_a_step() for _ in range(5)) < PAGES
