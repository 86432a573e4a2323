"""A step asks the device for much, and waits for none of it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ptystream.recon.looks import Later, Looks
from ptystream.recon.options import (
    EngineOptions,
    NuisanceOptions,
    ObjectOptions,
    PhysicsOptions,
    ReconOptions,
)
from ptystream.recon.reconstruction import LOOK, Reconstruction, Setting
from tests.recon.small_scan import SIZE, SmallScan

READS = {"cpu", "item", "tolist", "numpy", "__bool__", "__float__", "__int__"}
READS |= {"__index__", "__array__", "nonzero", "is_nonzero", "equal", "allclose"}
WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select")


class NoRead(TorchFunctionMode):
    """Raises where Python reads a tensor's values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in READS:
            raise AssertionError(f"a step reads a tensor: {name}")
        return func(*args, **(kwargs or {}))


class NoWait(TorchDispatchMode):
    """Raises where an operator has to know values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs=None):
        name = func.overloadpacket.__name__
        indices = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ()
        counted = name.startswith("index") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in indices
        )
        if counted or name in WAITS:
            raise AssertionError(f"a step waits for a tensor: {name}")
        return func(*args, **(kwargs or {}))


@contextmanager
def unread() -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(NoRead())
        stack.enter_context(NoWait())
        yield


def a_reconstruction(options: ReconOptions) -> Reconstruction:
    scan = SmallScan(lines=8)
    probe = torch.from_numpy(scan.probe)[None]
    setting = Setting(SIZE, (2e-8, 2e-8), probe, wavelength_m=1e-10)
    recon = Reconstruction(setting, options)
    for i, (counts, place) in enumerate(
        zip(scan.counts(2e5), scan.centres_px, strict=True)
    ):
        recon.add(i, counts, tuple(place * 2e-8))
    return recon


def options(device: str = "cpu", **groups: Any) -> ReconOptions:
    engine = EngineOptions(batch=8, held_out=0.15, store=64, device=device)
    return ReconOptions(engine=engine, **groups)


KINDS = {
    **{
        name: {"object": ObjectOptions(field=name, width=16, filters=4, depth=1)}
        for name in ("smooth", "pixels", "siren", "multires", "hashgrid", "unet")
    },
    "slices": {
        "object": ObjectOptions(field="pixels", slices=2),
        "physics": PhysicsOptions(slice_m=1e-6),
    },
    "path": {
        "object": ObjectOptions(field="pixels"),
        "physics": PhysicsOptions(fly_points=2, tv_xy=0.1),
    },
    "places": {
        "object": ObjectOptions(field="pixels"),
        "nuisance": NuisanceOptions(positions="both", intensity=True, after_steps=2),
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_step_reads_a_tensor(kind):
    groups = KINDS[kind]
    recon = a_reconstruction(options(**groups))
    recon.step()
    with unread():
        for _ in range(6):
            recon.step()
    assert recon.engine.steps == 7


@pytest.mark.parametrize("kind", ["smooth", "pixels"])
def test_neither_does_one_that_looks(kind):
    recon = a_reconstruction(options(**KINDS[kind]))
    for _ in range(LOOK - 1):
        recon.step()
    with unread():
        recon.step()
    assert recon.engine.steps == LOOK


def test_the_watch_sees_what_it_is_for():
    for read in (float, bool, Tensor.cpu, Tensor.tolist, np.asarray):
        with unread(), pytest.raises(AssertionError, match="a step"):
            read(torch.ones(()))
    with unread(), pytest.raises(AssertionError, match="a step"):
        torch.arange(3)[torch.tensor([True, False, True])]


def test_what_is_read_later_is_what_there_was():
    values = torch.arange(4.0)
    later = Later(values, values.sum())
    values += 1
    first, total = later.read()
    np.testing.assert_array_equal(first, np.arange(4))
    assert total == 6


def test_a_look_is_handed_out_at_the_next():
    recon = a_reconstruction(options(object=ObjectOptions(field="pixels")))
    looks = Looks(recon.exposures, recon.predictor)
    for _ in range(3):
        recon.step()
    lit = torch.ones(())
    assert looks.look(recon.object, recon.probe, lit, still=False) is None
    losses = recon.store.loss.clone().numpy()
    for _ in range(20):
        recon.step()
    seen = looks.look(recon.object, recon.probe, lit, still=False)
    assert seen is not None
    np.testing.assert_array_equal(seen.loss, losses)
    assert seen.arrivals == 64
    assert 0 <= seen.noise <= 1


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["smooth", "pixels", "siren", "multires"])
def test_a_gpu_is_never_waited_for(kind):
    recon = a_reconstruction(options("cuda", **KINDS[kind]))
    for _ in range(3):
        recon.step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(20):
            recon.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert recon.engine.steps == 23
