"""Hygiene for every test: no leaked thread, no leaked ZMQ context, no GPU surprise."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.keyring import Keyring

# Before torch is loaded: with one thread sums come in one order, so what must be the
# same to the bit is; and small arrays gain nothing from a second.
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("ptystream", deadline=None, max_examples=50)
settings.load_profile("ptystream")

SHARED = Path(__file__).parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine can't run, with the reason."""
    for item in items:
        if item.get_closest_marker("shared") and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason="no folder ../shared"))
        if item.get_closest_marker("gpu"):
            import torch

            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def shared() -> Path:
    """The folder of measured data beside the checkout."""
    return SHARED


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    """CURVE keys of a service, an operator, a viewer and a stranger."""
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    return Keyring(folder)


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    """Fail a test that leaves a thread of its own running."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        left = [
            t
            for t in threading.enumerate()
            if t not in before and not t.name.startswith("pydevd")
        ]
        if not left:
            return
        time.sleep(0.02)
    pytest.fail(f"threads left running: {[t.name for t in left]}")
