"""Before the first step: rivals of the first probe are found, and the best is taken."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from ptystream.recon.dilation import dilated
from ptystream.recon.options import (
    EngineOptions,
    NuisanceOptions,
    ObjectOptions,
    ProbeOptions,
    ReconOptions,
)
from ptystream.recon.options_start import StartOptions
from ptystream.recon.reconstruction import FIRST, Reconstruction, Setting
from ptystream.recon.setting import FirstProbe
from tests.recon.small_scan import SIZE, SmallScan

SCAN = SmallScan(lines=6)
TRUE = torch.from_numpy(SCAN.probe)[None].to(torch.complex64)
Y, X = np.mgrid[:SIZE, :SIZE] - SIZE / 2
OTHER = torch.from_numpy(np.exp(-(Y**2 + 3 * X**2) / 60 - 0.05j * X**2))[None].to(
    torch.complex64
)
"""Another beam: astigmatic, and out of focus the other way."""


def recon_of(first=TRUE, last=None, **groups) -> Reconstruction:
    setting = Setting(SIZE, (1.0, 1.0), first, origin="optics", last=last)
    options = ReconOptions(
        engine=EngineOptions(batch=16, held_out=0.1),
        start=StartOptions(frames=24, steps=20),
    )
    return Reconstruction(setting, replace(options, **groups))


def feed(recon: Reconstruction, first: int = 0, last: int | None = None) -> None:
    counts = SCAN.counts(2e5)
    places = SCAN.centres_px
    for n in range(len(counts))[first:last]:
        recon.add(n, counts[n], (float(places[n][0]), float(places[n][1])))


def begun(recon: Reconstruction) -> str:
    """Step until the reconstruction learns; return whose probe it began with."""
    for _ in range(200):
        assert recon.step() is not None
        if recon.engine.steps:
            return recon.opening.chosen.origin
    raise AssertionError("it never began")


def shown(recon: Reconstruction) -> torch.Tensor:
    snapshot = recon.snapshot()
    assert snapshot is not None
    return torch.from_numpy(snapshot.probe)


def alike(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.conj() * other).sum().abs() / one.norm() / other.norm())


def test_a_probe_that_fits_has_no_rivals_and_nothing_waits():
    recon = recon_of()
    feed(recon, 0, FIRST)
    assert recon.opening.done
    assert recon.step() is not None
    assert recon.engine.steps == 1


@pytest.mark.parametrize("size", [0.5, 1.6])
def test_a_probe_of_the_wrong_size_gets_the_right_one(size):
    recon = recon_of(dilated(TRUE, size))
    feed(recon)
    told = re.match(r"optics, ([\d.]+) times as large", begun(recon))
    assert told
    assert float(told[1]) == pytest.approx(1 / size, rel=0.05)
    assert alike(shown(recon), TRUE) > 0.97
    snapshot = recon.snapshot()
    assert snapshot is not None
    assert snapshot.first_probe == recon.opening.chosen.origin
    right = recon_of()
    feed(right)
    begun(right)
    wanted = right.snapshot()
    assert wanted is not None
    assert snapshot.coverage.sum() == pytest.approx(wanted.coverage.sum(), rel=0.25)


@pytest.mark.parametrize(
    "off",
    [
        {"start": StartOptions(scales=1.0)},
        {"probe": ProbeOptions(known=True)},
    ],
)
def test_a_size_that_is_believed_is_not_looked_at(off):
    recon = recon_of(dilated(TRUE, 0.5), **off)
    feed(recon)
    assert recon.opening.done
    assert begun(recon) == "optics"


def test_the_last_scan_s_probe_is_taken_where_it_fits():
    recon = recon_of(OTHER, FirstProbe(TRUE * 300, "last scan r1"))
    feed(recon)
    assert begun(recon) == "last scan r1"
    assert alike(shown(recon), TRUE) > 0.99


def test_the_last_scan_s_probe_is_dropped_where_it_fits_worse():
    recon = recon_of(TRUE, FirstProbe(OTHER, "last scan r1"))
    feed(recon)
    assert begun(recon) == "optics"
    assert alike(shown(recon), TRUE) > 0.99


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_last_probe_that_is_not_finite_is_dropped(poison):
    recon = recon_of(TRUE, FirstProbe(torch.full_like(TRUE, poison), "last scan r1"))
    feed(recon)
    assert begun(recon) == "optics"
    for _ in range(5):
        recon.step()
    assert torch.isfinite(shown(recon).abs()).all()


def test_it_waits_for_exposures_but_not_beyond_the_end():
    recon = recon_of(TRUE, FirstProbe(TRUE, "last scan r1"))
    feed(recon, 0, 12)
    assert not recon.opening.done
    assert recon.step() is None
    snapshot = recon.snapshot()
    assert snapshot is not None
    assert snapshot.rung == "stxm"
    assert recon.step(live=False) is not None  # after the last frame
    feed(recon, 12)
    assert begun(recon) == "last scan r1"
    snapshot = recon.snapshot()
    assert snapshot is not None
    assert snapshot.rung == "reconstruction"


def test_a_trial_leaves_nothing_behind():
    """Had the choice been known, the object would be the same, bit for bit."""
    tried = recon_of(OTHER, FirstProbe(TRUE, "last scan r1"))
    told = recon_of(TRUE)
    objects = []
    for recon in tried, told:
        feed(recon)
        begun(recon)
        for _ in range(12):
            recon.step()
        snapshot = recon.snapshot()
        assert snapshot is not None
        objects.append(snapshot.object)
    assert np.array_equal(*objects)


@pytest.mark.parametrize("field", ["pixels", "siren", "multires", "unet"])
def test_every_kind_of_object_can_begin_so(field):
    small = ObjectOptions(field=field, width=16, depth=1, filters=4)
    recon = recon_of(dilated(TRUE, 0.5), object=small)
    feed(recon)
    assert begun(recon).startswith("optics, 2")


def test_a_mixture_in_slices_can_begin_so():
    two = torch.cat([TRUE, 0.2 * TRUE.roll(1, 1)])
    setting = Setting(
        SIZE,
        (1e-8, 1e-8),
        dilated(two, 0.5),
        wavelength_m=1e-10,
        last=FirstProbe(two, "last scan r1"),
    )
    options = ReconOptions(
        object=ObjectOptions(slices=2),
        probe=ProbeOptions(modes=2),
        engine=EngineOptions(batch=16),
    )
    options = replace(options, physics=replace(options.physics, slice_m=1e-7))
    recon = Reconstruction(setting, options)
    counts = SCAN.counts(2e5)
    for n, (y, x) in enumerate(SCAN.centres_px * 1e-8):
        recon.add(n, counts[n], (float(y), float(x)))
    assert begun(recon) == "last scan r1"


@pytest.mark.parametrize("learned", [True, False])
def test_the_positions_affine_comes_with_its_probe(learned):
    """Positions told 20 % too near each other; the last scan has found that."""
    told = NuisanceOptions(positions="affine" if learned else "frames")
    stretch = torch.tensor([np.log(1.2), np.log(1.2), 0.0, 0.0])
    last = FirstProbe(TRUE, "last scan r1", stretch)
    recon, scan = recon_of(TRUE, last, nuisance=told), SmallScan(lines=10)
    counts = scan.counts(2e5)
    for n, (y, x) in enumerate(scan.centres_px / 1.2):
        recon.add(n, counts[n], (float(y), float(x)))
    assert begun(recon) == "last scan r1"
    assert recon.nuisance is not None
    kept = recon.nuisance.positions.affine.detach()
    torch.testing.assert_close(kept[:2], stretch[:2].float() * learned)


def test_an_affine_that_fits_worse_is_dropped_with_its_probe():
    told = NuisanceOptions(positions="affine")
    last = FirstProbe(TRUE, "last scan r1", torch.tensor([0.25, -0.25, 0.0, 0.0]))
    recon = recon_of(TRUE, last, nuisance=told)
    feed(recon)
    assert begun(recon) == "optics"
    assert recon.nuisance is not None
    assert not recon.nuisance.positions.affine.any()


def test_slots_may_take_other_exposures_while_probes_contend():
    """What a rival learns from next may lie where its object was not yet."""
    engine = EngineOptions(batch=16, held_out=0.1, store=24)
    recon = recon_of(dilated(TRUE, 0.5), engine=engine)
    feed(recon, 0, 24)
    assert recon.step() is not None
    assert not recon.opening.done
    counts, far = SCAN.counts(2e5), 300.0
    for n in range(len(counts)):
        y, x = SCAN.centres_px[n]
        recon.add(100 + n, counts[n], (float(y) + far, float(x) + far))
    assert begun(recon)
    snapshot = recon.snapshot()
    assert snapshot is not None
    assert np.isfinite(snapshot.object).all()
