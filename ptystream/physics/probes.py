"""Modelled probes: where a reconstruction starts when nobody has measured one.

All lie centred on pixel [h//2, w//2] of the object grid, and are normalised to unit
energy Σ|P|² = 1. Their far field is fftshift(fft2(P)). A positive defocus means that
the sample is downstream of the focus, so that the beam on it diverges. Light that
would leave the window wraps around: choose one wider than twice the aperture times
the defocus. Lens models are computed in double precision on the CPU.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ptystream.physics.geometry import zone_plate_aperture
from ptystream.physics.propagate import angular_spectrum

MODE_SHARE = 0.02
"""Energy that each extra mode starts with."""


@dataclass(frozen=True, slots=True)
class ProbeGrid:
    """The window that a probe is modelled on: shape (h, w) and pixel (y, x)."""

    shape: tuple[int, int]
    pixel_m: tuple[float, float]
    wavelength_m: float

    def angles_rad(self) -> tuple[Float[Tensor, "h 1"], Float[Tensor, "1 w"]]:
        """Return the pupil's angles λ·f, zero in the centre."""
        y, x = (
            self.wavelength_m
            * torch.fft.fftshift(torch.fft.fftfreq(n, p, dtype=torch.float64))
            for n, p in zip(self.shape, self.pixel_m, strict=True)
        )
        return y[:, None], x[None, :]

    def defocus(self, distance_m: float) -> Complex[Tensor, "h w"]:
        """Return what free space over the distance does to the pupil."""
        kernel = angular_spectrum(
            self.shape,
            wavelength_m=self.wavelength_m,
            distance_m=distance_m,
            pixel_m=self.pixel_m,
            dtype=torch.complex128,
        )
        return torch.fft.fftshift(kernel)


class Aberration(NamedTuple):
    """One term C_nm of the aberration function, in Krivanek's notation.

    ``Aberration(3, 0, c)`` is spherical, ``(1, 2, c, a)`` astigmatism of which the
    axis lies at the angle a.
    """

    n: int
    m: int
    length_m: float
    angle_rad: float = 0.0


def zone_plate(
    grid: ProbeGrid,
    *,
    diameter_m: float,
    outer_zone_m: float,
    stop_m: float = 0.0,
    defocus_m: float = 0.0,
) -> Complex[Tensor, "h w"]:
    """Return a zone plate's first order; a stop hides its centre (both diameters)."""
    y, x = grid.angles_rad()
    radius = torch.hypot(y, x)
    aperture = zone_plate_aperture(outer_zone_m, grid.wavelength_m)
    pupil = _below(radius, aperture, grid)
    if stop_m > 0:
        pupil = pupil * (1 - _below(radius, aperture * stop_m / diameter_m, grid))
    return _focused(pupil * grid.defocus(defocus_m))


def laue_lenses(
    grid: ProbeGrid,
    *,
    aperture: tuple[float, float],
    defocus_m: tuple[float, float] = (0.0, 0.0),
) -> Complex[Tensor, "h w"]:
    """Return the focus of crossed multilayer Laue lenses: a rectangular pupil.

    ``aperture`` is the half-opening λ·f (y, x) of each lens, seen from its own axis;
    each has its own defocus. The difference of the two is treated as paraxial.
    """
    pupil = torch.ones(grid.shape, dtype=torch.float64)
    for angle, edge in zip(grid.angles_rad(), aperture, strict=True):
        pupil = pupil * _below(angle.abs(), edge, grid)
    y, x = grid.angles_rad()
    apart = (defocus_m[0] - defocus_m[1]) / 2
    turns = apart * (x**2 - y**2) / (2 * grid.wavelength_m)
    astigmatism = torch.polar(pupil, 2 * torch.pi * turns)
    return _focused(astigmatism * grid.defocus(sum(defocus_m) / 2))


def electron_aperture(
    grid: ProbeGrid,
    *,
    semi_angle_rad: float,
    defocus_m: float = 0.0,
    aberrations: Sequence[Aberration] = (),
) -> Complex[Tensor, "h w"]:
    """Return the probe of a round aperture with the phase exp(-iχ).

    χ = 2π/λ Σ C_nm αⁿ⁺¹ cos m(φ - φ_nm) / (n + 1), where C10 is the defocus: positive
    where the crossover lies before the sample. (Much of the literature turns it round:
    Δf = -C10.)
    """
    y, x = grid.angles_rad()
    radius, azimuth = torch.hypot(y, x), torch.atan2(y, x)
    chi = torch.zeros(grid.shape, dtype=torch.float64)
    for term in (Aberration(1, 0, defocus_m), *aberrations):
        lobes = torch.cos(term.m * (azimuth - term.angle_rad))
        chi += term.length_m * radius ** (term.n + 1) * lobes / (term.n + 1)
    pupil = _below(radius, semi_angle_rad, grid)
    return _focused(torch.polar(pupil, -2 * torch.pi / grid.wavelength_m * chi))


def from_pattern(
    pattern: Float[Tensor, "h w"],
    grid: ProbeGrid | None = None,
    defocus_m: float = 0.0,
) -> Complex[Tensor, "h w"]:
    """Return the probe with this mean pattern as far field, of flat phase at focus.

    The pattern has its zero frequency in the centre; negative counts are dark. A
    defocus needs the grid. Keeps the pattern's device and precision.
    """
    pupil = pattern.clamp(min=0).sqrt().to(pattern.dtype.to_complex())
    if grid is not None:
        pupil = pupil * grid.defocus(defocus_m).to(pupil)
    return _focused(pupil)


def gaussian(
    shape: tuple[int, int], fwhm_px: float | tuple[float, float]
) -> Complex[Tensor, "h w"]:
    """Return a flat-phased Gaussian; the width is that of its intensity."""
    fwhm = fwhm_px if isinstance(fwhm_px, tuple) else (fwhm_px, fwhm_px)
    y, x = _pixels(shape)
    log = (y / fwhm[0]) ** 2 + (x / fwhm[1]) ** 2
    halving = 2 * torch.log(torch.tensor(2.0, dtype=torch.float64))
    return normalised(torch.exp(-halving * log).to(torch.complex128))


def random(shape: tuple[int, int], seed: int) -> Complex[Tensor, "h w"]:
    """Return PtyINR's start: amplitude and phase (rad) uniform in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    amplitude, phase = torch.rand(
        (2, *shape), generator=generator, dtype=torch.float64
    ).unbind()
    return normalised(torch.polar(amplitude, phase))


def with_modes(
    probe: Complex[Tensor, "h w"],
    modes: int,
    shares: float | Sequence[float] = MODE_SHARE,
) -> Complex[Tensor, "modes h w"]:
    """Return the probe and orthogonal extra modes of the same total energy.

    Extra modes are the probe times x, y, x², xy, y² …, made orthogonal: the shape
    that blur by vibration takes. ``shares`` are their parts of the energy, one for
    all or each; raise ValueError if they leave the first mode none.
    """
    parts = list(shares) if isinstance(shares, Sequence) else [shares] * (modes - 1)
    if len(parts) != modes - 1 or sum(parts) >= 1:
        raise ValueError(
            f"{modes} modes with extra shares {parts}: expected {modes - 1} of them, "
            f"less than 1 in sum"
        )
    basis = _hermite_like(probe, modes)
    power = torch.tensor([1 - sum(parts), *parts], dtype=torch.float64)
    total = probe.abs().square().sum()
    scale = (power.to(total) * total).sqrt()
    return basis * scale[:, None, None]


def normalised(
    probe: Complex[Tensor, "*modes h w"], energy: float = 1.0
) -> Complex[Tensor, "*modes h w"]:
    """Return the probe with Σ|P|² over all modes = energy: photons, say, per frame.

    By Parseval the far field with norm="ortho" then holds as much. Raise ValueError
    if the probe is dark.
    """
    total = float(probe.abs().square().sum())
    if not total > 0:
        raise ValueError("the probe is dark: expected some light inside the window")
    return probe * (energy / total) ** 0.5


def _focused(pupil: Complex[Tensor, "h w"]) -> Complex[Tensor, "h w"]:
    """Return the pupil's inverse transform, centred, of unit energy."""
    corner = torch.fft.ifft2(torch.fft.ifftshift(pupil))
    return normalised(torch.fft.fftshift(corner))


def _below(
    angle_rad: Float[Tensor, "h w"], edge_rad: float, grid: ProbeGrid
) -> Float[Tensor, "h w"]:
    """Return 1 below the edge, 0 above, sloped over one pixel of the pupil."""
    pixel = min(
        grid.wavelength_m / (n * p)
        for n, p in zip(grid.shape, grid.pixel_m, strict=True)
    )
    return ((edge_rad - angle_rad) / pixel + 0.5).clamp(0, 1)


def _pixels(
    shape: tuple[int, int],
) -> tuple[Float[Tensor, "h 1"], Float[Tensor, "1 w"]]:
    """Return pixel coordinates from the centre [h//2, w//2]."""
    y, x = (torch.arange(n, dtype=torch.float64) - n // 2 for n in shape)
    return y[:, None], x[None, :]


def _hermite_like(
    probe: Complex[Tensor, "h w"], modes: int
) -> Complex[Tensor, "modes h w"]:
    """Return unit modes, orthogonal: the probe times powers of y and x."""
    shape = (probe.shape[0], probe.shape[1])
    y, x = (p.to(probe.abs()) / max(shape) for p in _pixels(shape))
    found: list[Tensor] = []
    for across, down in islice(_powers(), modes):
        found.append(_rejected(probe * x**across * y**down, found))
    return torch.stack(found)


def _powers() -> Iterator[tuple[int, int]]:
    """Yield the powers of (x, y): 1, x, y, x², xy, y² and on."""
    for order in count():
        yield from ((order - down, down) for down in range(order + 1))


def _rejected(
    mode: Complex[Tensor, "h w"], others: Sequence[Tensor]
) -> Complex[Tensor, "h w"]:
    """Return the unit part orthogonal to the others; twice, against round-off."""
    for _ in range(2):
        for other in others:
            mode = mode - other * (other.conj() * mode).sum()
    return normalised(mode)
