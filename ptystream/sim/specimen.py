"""The specimen as the simulation goes through it, and as the truth shows it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex64, Complex128, Float64

from ptystream.errors import ConfigError
from ptystream.sim.atoms import REACH_M, Atoms, slice_phases
from ptystream.sim.crystals import (
    COMPOUNDS,
    Area,
    carbon_film,
    gold_particle,
    layer,
    together,
)
from ptystream.sim.electrons import mass_ratio
from ptystream.sim.optics_settings import AnyOptics, ElectronSettings
from ptystream.sim.pictures import picture
from ptystream.sim.sample import Canvas, transmission
from ptystream.sim.sample_settings import (
    AnySample,
    AtomSettings,
    LayerSettings,
    NanoparticleSettings,
    PictureSettings,
)

MAX_BYTES = 1 << 32
"""A specimen that needs more memory than this, all slices together, is refused."""
BAND = 2 / 3
"""Of the fine grid's Nyquist frequency: what a slice and a wave may hold. Above that,
their product would come back as a low frequency (Kirkland's limit)."""


@dataclass(frozen=True, slots=True)
class Specimen:
    """What the waves go through, and what a solver should find.

    ``slices`` lie ``spacing_m`` apart, on a grid finer than that of ``truth``;
    ``before_m`` is how far the first of them lies before the truth's first slice.
    ``truth_spacing_m`` is None for a thin object. The window that the waves go through
    has pixels so much ``finer``, and is so much ``wider``, than the solver's.
    """

    slices: Complex128[np.ndarray, "s h w"]
    canvas: Canvas
    spacing_m: float
    before_m: float
    truth: Complex64[np.ndarray, "t h w"]
    truth_spacing_m: float | None
    finer: int = 1
    wider: int = 1


def specimen(
    sample: AnySample, optics: AnyOptics, canvas: Canvas, *, seed: int
) -> Specimen:
    """Return the specimen on this canvas, which has the pixels of the solver.

    Raises:
        ConfigError: it takes more memory than MAX_BYTES, or a picture can't be read.
    """
    if isinstance(sample, PictureSettings):
        return _pictures(sample, canvas, seed)
    if not isinstance(optics, ElectronSettings):
        raise ConfigError(f"a sample of {sample.kind}: expected optics of electrons")
    return _atoms(sample, optics, canvas, seed)


def _pictures(sample: PictureSettings, canvas: Canvas, seed: int) -> Specimen:
    obj = transmission(
        picture(sample.amplitude_picture, canvas.shape, seed),
        picture(sample.phase_picture, canvas.shape, seed + 1),
        amplitude=sample.amplitude,
        phase_rad=sample.phase_rad,
    )[None]
    return Specimen(obj, canvas, 0.0, 0.0, obj.astype(np.complex64), None)


def _atoms(
    sample: AtomSettings,
    optics: ElectronSettings,
    canvas: Canvas,
    seed: int,
) -> Specimen:
    finer = sample.finer
    fine = Canvas(
        (finer * canvas.shape[0], finer * canvas.shape[1]),
        (canvas.pixel_m[0] / finer, canvas.pixel_m[1] / finer),
        canvas.origin_m,
    )
    steps = sample.slices * sample.sub_slices
    _check_size(steps, fine)
    phases = slice_phases(
        atoms_of(sample, area_of(fine), seed),
        fine,
        np.linspace(0, sample.thickness_m, steps + 1),
        wavelength_m=optics.wavelength_m,
        mass_ratio=mass_ratio(optics.voltage_v),
        thermal_m=sample.thermal_m,
    )
    seen = phases.reshape(sample.slices, sample.sub_slices, *fine.shape).sum(axis=1)
    truth = [np.exp(1j * coarse(p, canvas.shape)).astype(np.complex64) for p in seen]
    spacing_m = sample.slice_m / sample.sub_slices
    return Specimen(
        np.stack(list(_transmissions(phases))),
        fine,
        spacing_m,
        (sample.slice_m - spacing_m) / 2,
        np.stack(truth),
        sample.slice_m,
        finer,
        sample.wider,
    )


def _check_size(steps: int, fine: Canvas) -> None:
    """Phases and transmissions live side by side: 24 bytes a pixel."""
    need = 24 * steps * fine.shape[0] * fine.shape[1]
    if need > MAX_BYTES:
        raise ConfigError(
            f"specimen of {steps} slices of {fine.shape[0]}x{fine.shape[1]} pixels: "
            f"{need / 2**30:.1f} GiB, expected at most {MAX_BYTES / 2**30:.0f}"
        )


def area_of(canvas: Canvas) -> Area:
    """Return what atoms must cover, so that the canvas has no edge."""
    low = np.array(canvas.origin_m)
    high = low + np.array(canvas.pixel_m) * canvas.shape
    (y0, x0), (y1, x1) = (low - REACH_M).tolist(), (high + REACH_M).tolist()
    return Area((y0, x0), (y1, x1))


def atoms_of(sample: AtomSettings, area: Area, seed: int) -> Atoms:
    """Return the specimen's atoms over this area, z from its entrance."""
    rng = np.random.default_rng([seed, 5])
    if isinstance(sample, LayerSettings):
        return _layers(sample, area, rng)
    return _nanoparticles(sample, area, rng)


def _layers(sample: LayerSettings, area: Area, rng: np.random.Generator) -> Atoms:
    return together(
        *(
            layer(
                COMPOUNDS[sample.material],
                area,
                z_m=sample.thickness_m / 2
                + (number - (sample.layers - 1) / 2) * sample.spacing_m,
                turn_rad=sample.turn_rad + number * sample.twist_rad,
                vacancies=sample.vacancies,
                rng=rng,
            )
            for number in range(sample.layers)
        )
    )


def _nanoparticles(
    sample: NanoparticleSettings, area: Area, rng: np.random.Generator
) -> Atoms:
    """Particles that lie on the film, which ends where the specimen does."""
    film_m = sample.thickness_m - sample.carbon_m
    particles = [
        gold_particle(
            sample.diameter_m,
            sample.height_m,
            np.array([film_m - sample.height_m / 2, y, x]),
            float(rng.uniform(0, np.pi)),
        )
        for y, x in _centres(sample.particles, area, rng)
    ]
    film = carbon_film(area, top_m=film_m, bottom_m=sample.thickness_m, rng=rng)
    atoms = together(*particles, film)
    return {name: at[area.holds(at)] for name, at in atoms.items()}


def _centres(
    particles: int, area: Area, rng: np.random.Generator
) -> Float64[np.ndarray, "n 2"]:
    others = rng.uniform(area.low_m, area.high_m, (particles - 1, 2))
    return np.concatenate([area.centre_m[None], others])


def coarse(
    fine: Float64[np.ndarray, "H W"], shape: tuple[int, int]
) -> Float64[np.ndarray, "h w"]:
    """Return the image's low frequencies on a coarser grid with the same pixel [0, 0].

    A mean over blocks would blur, and lie half a fine pixel aside.
    """
    h, w = shape
    spectrum = np.fft.fftshift(np.fft.fft2(fine))
    top, left = (n // 2 - m // 2 for n, m in zip(fine.shape, shape, strict=True))
    middle = spectrum[top : top + h, left : left + w]
    return np.fft.ifft2(np.fft.ifftshift(middle)).real * (h * w / fine.size)


def _transmissions(
    phases: Float64[np.ndarray, "s h w"],
) -> Iterator[Complex128[np.ndarray, "h w"]]:
    """Yield each slice's transmission, within the band that a product may have."""
    y, x = (np.abs(np.fft.fftfreq(n)) <= BAND / 2 for n in phases.shape[1:])
    for phase in phases:
        spectrum = np.fft.fft2(np.exp(1j * phase))
        yield np.fft.ifft2(spectrum * (y[:, None] & x[None]))
