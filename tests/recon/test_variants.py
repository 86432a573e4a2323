"""Where a paper's text and its code differ, or a name of theirs is a setting."""

import pytest
import torch

from ptystream.config import load
from ptystream.models.complex_layers import ModRelu, PhaseRelu, Relu
from ptystream.models.field import Box
from ptystream.models.hashgrid import HashGrid
from ptystream.models.siren import Siren
from ptystream.models.unet import UNetField
from ptystream.physics.constraints import gram_schmidt, orthogonalise
from ptystream.physics.losses import surface_zero, total_variation
from ptystream.recon.build import object_hold, prior
from ptystream.recon.hold import still
from ptystream.recon.learners import at_unit_light
from ptystream.recon.networks import object_network, probe_network
from ptystream.recon.optics import Gradients
from ptystream.recon.options import ReconOptions
from tests.recon.general_scan import GeneralScan

CPU = torch.device("cpu")
FRAME = Box(0, 0, 16, 16)
TINY = (
    "object.width=8",
    "object.hidden=1",
    "object.depth=1",
    "object.filters=2",
    "probe.depth=1",
    "probe.filters=2",
    "hashgrid.levels=3",
    "hashgrid.table=256",
    "hashgrid.width=8",
)


def told(*flags: str) -> ReconOptions:
    """Return what a user's ``--set`` amounts to."""
    return load(environment={}, flags=[*TINY, *flags]).recon()


def an_object(*flags: str):
    options = told(*flags)
    torch.manual_seed(0)
    return object_network(options, CPU, object_hold(options))


def a_probe(*flags: str, modes: int = 1):
    torch.manual_seed(0)
    first = torch.randn(modes, 16, 16, dtype=torch.complex64)
    net = probe_network(first, told(*flags))
    net.see(FRAME, first)
    return net


def test_a_siren_is_built_as_it_is_told():
    inner = an_object(
        "object.field=siren",
        "object.omega0=90",
        "object.omega_hidden=12",
        "object.scaled_bias=true",
        "object.absolute=true",
        "object.flat=0",
        "object.coordinates=unit",
    ).inner
    assert isinstance(inner, Siren)
    assert [layer.omega for layer in inner.phase[:-1]] == [90, 12]
    assert all(layer.scaled_bias for layer in inner.phase[:-1])
    assert (inner.absolute, inner.flat) == (True, 0)
    inner.cover(Box(4, 4, 9, 9))
    assert inner._frame(FRAME) == ((0, 0), 15)


def test_the_text_is_the_siren_s_default():
    inner = an_object("object.field=siren").inner
    assert not any(layer.scaled_bias for layer in inner.phase[:-1])
    assert not inner.absolute


@pytest.mark.parametrize("signed", [False, True])
def test_a_hash_grid_is_built_as_it_is_told(signed):
    word = str(signed).lower()
    shape = (
        "hashgrid.levels=5",
        "hashgrid.features=3",
        "hashgrid.table=512",
        "hashgrid.base=8",
        "hashgrid.growth=1.25",
        "hashgrid.width=20",
        "hashgrid.output_scale=7",
    )
    probe = a_probe(
        "probe.field=hashgrid",
        f"probe.signed={word}",
        f"probe.absolute={word}",
        *shape,
    ).inner
    coordinates = "signed" if signed else "unit"
    made = an_object(
        "object.field=hashgrid",
        f"object.coordinates={coordinates}",
        f"object.absolute={word}",
        "object.flat=0.5",
        *shape,
    ).inner
    for inner in (probe, made):
        assert isinstance(inner, HashGrid)
        levels = inner._scheme.levels
        assert [x.nodes for x in levels] == [8, 10, 13, 16, 20]
        assert inner.phase.table.shape == (64 + 104 + 176 + 256 + 400, 3)
        assert [layer.out_features for layer in inner.phase.layers] == [20, 20, 1]
        assert inner.output_scale == 7
        assert (inner._scheme.signed, inner.absolute) == (signed, signed)
    assert (made.flat, probe.flat) == (0.5, 0)


@pytest.mark.parametrize(
    ("name", "layer"), [("relu", Relu), ("modrelu", ModRelu), ("phaserelu", PhaseRelu)]
)
@pytest.mark.parametrize("part", ["object", "probe"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_a_u_net_is_built_as_it_is_told(part, name, layer, norm_first):
    flags = (
        f"{part}.field=unet",
        f"{part}.activation={name}",
        f"{part}.norm_first={str(norm_first).lower()}",
        f"{part}.noise=0.5",
    )
    inner = (an_object(*flags) if part == "object" else a_probe(*flags)).inner
    assert isinstance(inner, UNetField)
    assert isinstance(inner.net.bottom[2 if norm_first else 1], layer)
    assert inner.noise == 0.5


@pytest.mark.parametrize("where", ["forward", "shown"])
def test_an_object_s_constraints_hold_in_the_forward_pass_or_in_what_is_shown(where):
    field = an_object(
        "object.field=siren",
        "object.flat=3",
        "object.amplitude_max=1",
        f"object.constraints={where}",
    )
    learned = field.window(FRAME)
    with still(field):
        shown = field.window(FRAME)
    assert float(shown.detach().abs().max()) == pytest.approx(1)
    assert (float(learned.detach().abs().max()) > 2) == (where == "shown")
    assert field.training


@pytest.mark.parametrize("where", ["forward", "shown"])
def test_a_probe_s_modes_are_orthogonal_there_too(where):
    field = a_probe(
        "probe.field=hashgrid",
        "probe.modes=2",
        "probe.orthogonal_steps=1",
        f"probe.constraints={where}",
        modes=2,
    )
    with torch.no_grad():
        learned = overlap(field.window(FRAME))
        with still(field):
            shown = overlap(field.window(FRAME))
    assert shown < 1e-3
    assert (learned > 1e-2) == (where == "shown")


def overlap(probe: torch.Tensor) -> float:
    """Return how far from orthogonal two modes are, 0 to 1."""
    one, two = probe.flatten(1)
    return float((one.conj() @ two).abs() / one.norm() / two.norm())


@pytest.mark.parametrize(
    ("way", "mix"), [("eigenvectors", orthogonalise), ("gram_schmidt", gram_schmidt)]
)
def test_a_network_s_modes_are_mixed_or_keep_their_light(way, mix):
    field = a_probe(
        "probe.field=hashgrid",
        "probe.modes=2",
        "probe.orthogonal_steps=1",
        f"probe.orthogonal_by={way}",
        modes=2,
    )
    with torch.no_grad():
        expected = at_unit_light(mix(field.inner.window(FRAME)))
        torch.testing.assert_close(field.window(FRAME), expected)


def test_pixels_modes_are_mixed_or_keep_their_light():
    scan = GeneralScan(modes=2)
    first = scan.probes.copy()
    first[1] += 0.5 * first[0]
    made = {}
    for way in ("eigenvectors", "gram_schmidt"):
        o = told(
            "probe.modes=2",
            "probe.orthogonal_steps=1",
            f"probe.orthogonal_by={way}",
            "engine.probe_rate=1e-9",
        )
        recon = scan.reconstruction(first=first, probe=o.probe, engine=o.engine)
        recon.step()
        with torch.no_grad():
            made[way] = recon.probe.window(recon._frame)
        assert overlap(made[way]) < 1e-3
    guess = torch.from_numpy(first).to(torch.complex64)
    for way, mix in (("eigenvectors", orthogonalise), ("gram_schmidt", gram_schmidt)):
        share = light_shares(made[way])
        assert share == pytest.approx(light_shares(mix(guess)), abs=0.02)
    assert abs(light_shares(made["eigenvectors"]) - share) > 0.03


def light_shares(probe: torch.Tensor) -> float:
    """Return the first mode's share of the light."""
    light = probe.abs().square().sum((1, 2))
    return float(light[0] / light.sum())


def test_the_probe_is_recentred_only_if_told():
    peaks = []
    for flag in ("false", "true"):
        field = a_probe("probe.field=hashgrid", f"probe.recentre={flag}")
        with torch.no_grad():
            made = field.window(FRAME)[0].abs()
        peaks.append(divmod(int(made.argmax()), 16))
    assert peaks[1] == (8, 8) != peaks[0]


@pytest.mark.parametrize("field", ["pixels", "hashgrid"])
def test_a_probe_may_be_normalised_by_nothing(field):
    scan = GeneralScan()
    first = scan.probes * torch.linspace(1, 0.3, 24).numpy()
    # Without aberrations pixels learn from the first step.
    flags = (f"probe.field={field}", "probe.pretrain_steps=10", "probe.aberrations=0")
    light = {}
    for way in ("light", "none"):
        o = told(*flags, f"probe.normalise={way}")
        recon = scan.reconstruction(first=first, probe=o.probe, hashgrid=o.hashgrid)
        for _ in range(15):
            recon.step()
        with torch.no_grad():
            light[way] = float(recon.probe.window(recon._frame).abs().square().mean())
    assert light["light"] == pytest.approx(1, rel=1e-4)
    assert abs(light["none"] - 1) > 1e-3


@pytest.mark.parametrize("priors", ["text", "code"])
def test_soft_constraints_are_the_text_s_or_the_code_s(priors):
    made = torch.Generator().manual_seed(0)
    window = torch.randn(3, 6, 5, generator=made, dtype=torch.complex64)
    probe = torch.ones(1, 4, 4, dtype=torch.complex64)
    nothing = Gradients(
        torch.zeros(2), 1.0, 0 * window, torch.ones(6, 5), probe, torch.tensor(1.0)
    )
    options = told(
        "physics.tv_xy=0.3",
        "physics.tv_z=0.2",
        "physics.surface_zero=0.4",
        f"physics.priors={priors}",
    )
    added = prior(options).add(nothing, window, probe, 0).by_window
    leaf, code = window.clone().requires_grad_(), priors == "code"
    total = total_variation(leaf, weight_xy=0.3, weight_z=0.2, published=code)
    total = total + surface_zero(leaf, weight=0.4, published=code)
    (expected,) = torch.autograd.grad(total, leaf)
    torch.testing.assert_close(added, 2 * 16 * expected)


def test_a_factor_on_all_light_is_found():
    """The data's scale, where a probe held at its maximum is too weak for them."""
    scan = GeneralScan()
    counts = scan.counts(1e6)
    lost = {}
    for flag in ("false", "true"):
        o = told("probe.known=true", f"nuisance.scale={flag}", "engine.held_out=0.15")
        recon = scan.reconstruction(
            counts=counts, probe=o.probe, nuisance=o.nuisance, engine=o.engine
        )
        recon.exposures.photons *= 9.0  # every amplitude a third of what it should be
        for _ in range(60):
            recon.step(live=False)
        lost[flag] = recon.nuisance
        size = float(abs(recon.snapshot().object[0, 20:-20, 20:-20]).mean())
        if flag == "false":
            assert recon.nuisance is None
            assert size < 0.5
    factor = float(lost["true"].log_scale.detach().exp())
    assert factor < 0.6
    assert factor * size**2 == pytest.approx(0.9**2 / 9, rel=0.3)
