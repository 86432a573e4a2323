"""The engine: any field learns; a step that is not finite changes nothing."""

import numpy as np
import pytest
import torch

from ptystream.models.field import Box
from ptystream.recon.build import (
    object_field,
    object_learner,
    probe_field,
    probe_learner,
)
from ptystream.recon.engine import Batch, Engine, Rates
from ptystream.recon.learners import PixelLearner, at_unit_light, rms
from ptystream.recon.optics import FusedOptics
from ptystream.recon.options import (
    EngineOptions,
    ObjectOptions,
    ProbeOptions,
    ReconOptions,
)
from tests.recon.small_scan import SIZE, SmallScan

CPU = torch.device("cpu")


def an_engine(scan: SmallScan, **options) -> Engine:
    recon = ReconOptions(**options)
    made = object_field(recon, CPU)
    made.cover(Box(0, 0, scan.side, scan.side))
    first = torch.from_numpy(scan.probe)[None]
    probe = probe_field(first, recon, CPU)

    return Engine(
        object_learner(made, recon),
        probe_learner(probe, recon, first),
        FusedOptics(beta=recon.engine.beta),
        size=SIZE,
        damping=recon.engine.damping,
        mask=None,
    )


def a_batch(scan: SmallScan) -> Batch:
    amplitude = np.sqrt(scan.intensities())
    amplitude /= np.sqrt((amplitude**2).mean())
    return Batch(
        [(int(y), int(x)) for y, x in scan.corners],
        None,
        torch.from_numpy(amplitude).float(),
    )


@pytest.mark.parametrize(
    ("field", "steps", "share"),
    [
        ("smooth", 60, 0.3),
        ("pixels", 40, 0.02),
        ("multires", 60, 0.3),
        ("siren", 60, 0.6),
    ],
)
def test_every_field_learns_a_known_probe_scan(field, steps, share):
    scan = SmallScan()
    engine = an_engine(scan, object=ObjectOptions(field=field, width=32))
    batch = a_batch(scan)
    first = float(engine.step(batch, Rates(probe=False)).loss)
    for _ in range(steps):
        last = float(engine.step(batch, Rates(probe=False)).loss)
    assert last < share * first


def test_the_probe_is_recovered_with_the_object():
    scan = SmallScan()
    engine = an_engine(scan)
    wrong = np.roll(scan.probe, 1, 0)
    frame = Box(0, 0, SIZE, SIZE)
    guess = at_unit_light(torch.from_numpy(wrong)[None].to(torch.complex64))
    engine.probe.field.write(frame, guess)
    batch = a_batch(scan)
    first = float(engine.step(batch).loss)
    for _ in range(150):
        last = float(engine.step(batch).loss)
    assert last < 0.02 * first
    assert rms(engine.probe.window(frame)) == pytest.approx(1, rel=1e-5)


def test_a_held_probe_stays_as_it_is():
    scan = SmallScan()
    engine = an_engine(scan)
    frame = Box(0, 0, SIZE, SIZE)
    before = engine.probe.window(frame).clone()
    for _ in range(5):
        engine.step(a_batch(scan), Rates(probe=False))
    torch.testing.assert_close(engine.probe.window(frame), before)


@pytest.mark.parametrize("field", ["smooth", "pixels", "multires", "siren"])
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(field, poison):
    scan = SmallScan()
    engine = an_engine(scan, object=ObjectOptions(field=field, width=16))
    batch = a_batch(scan)
    for _ in range(3):
        engine.step(batch)
    box, frame = Box(0, 0, scan.side, scan.side), Box(0, 0, SIZE, SIZE)
    before = engine.objects.window(box).clone(), engine.probe.window(frame).clone()
    batch.amplitude[0, 0, 0] = poison
    engine.step(batch)
    torch.testing.assert_close(engine.objects.window(box), before[0])
    torch.testing.assert_close(engine.probe.window(frame), before[1])
    assert engine.refused() == 1


def test_hash_grid_probe_starts_as_its_guess_and_learns():
    scan = SmallScan()
    options = {"probe": ProbeOptions(field="hashgrid")}
    engine = an_engine(scan, **options)
    frame = Box(0, 0, SIZE, SIZE)
    guess = at_unit_light(torch.from_numpy(scan.probe)[None].to(torch.complex64))
    made = engine.probe.window(frame)
    gap = (made - guess).abs().square().sum() / guess.abs().square().sum()
    assert gap < 0.05
    batch = a_batch(scan)
    first = float(engine.step(batch).loss)
    for _ in range(40):
        last = float(engine.step(batch).loss)
    assert last < 0.3 * first


def test_momentum_lives_only_where_the_window_was():
    options = ReconOptions(object=ObjectOptions(field="pixels"))
    learner = object_learner(object_field(options, CPU), options)
    assert isinstance(learner, PixelLearner)
    learner.field.cover(Box(0, 0, 40, 40))
    box = Box(5, 5, 8, 8)
    learner.window(box)
    push = torch.ones(1, 8, 8, dtype=torch.complex64)
    learner.learn(push, torch.ones(8, 8), 1.0, torch.tensor(True))
    whole = learner.window(Box(0, 0, 40, 40)).clone()
    assert (whole[0, 5:13, 5:13] != 1).all()
    whole[0, 5:13, 5:13] = 1
    assert (whole == 1).all()


def test_options_are_frozen_and_plain():
    with pytest.raises(AttributeError):
        EngineOptions().batch = 3  # type: ignore[misc]
