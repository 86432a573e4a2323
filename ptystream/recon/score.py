"""How good a result is: against the truth, or against another result.

Works on arrays; whoever calls has read the files. Objects in several slices are
scored as the product of their slices: amplitudes multiply, phases add.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Complex, Float

from ptystream.errors import ConfigError, FileFormatError
from ptystream.recon import metrics
from ptystream.recon.align import Alignment, Grid, Lookup, align
from ptystream.recon.metrics import Resolution

LEAST_PX = 16
"""A region with a shorter side than this can't be scored."""


@runtime_checkable
class Placed(Protocol):
    """An object and a probe that know where they lie: a Snapshot, or an Image."""

    @property
    def object(self) -> np.ndarray:
        """Complex ``[slices, H, W]``."""
        ...

    @property
    def probe(self) -> np.ndarray | None:
        """Complex ``[modes, K, K]``, centred on pixel [K//2, K//2]; None if unknown."""
        ...

    @property
    def coverage(self) -> np.ndarray | None:
        """Illumination ``[H, W]``, 1 = one probe's peak; None if all is covered."""
        ...

    @property
    def origin_m(self) -> tuple[float, float]:
        """Physical (y, x) of the centre of object pixel [0, 0]."""
        ...

    @property
    def pixel_m(self) -> tuple[float, float]:
        """Pixel size (y, x)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """What scoring needs of a file: the plainest ``Placed``."""

    object: np.ndarray
    pixel_m: tuple[float, float]
    origin_m: tuple[float, float]
    probe: np.ndarray | None = None
    coverage: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class ImageScore:
    """PSNR in dB (MAX 1 and π) and structural similarity (data range 1 and π)."""

    psnr_amplitude_db: float
    psnr_phase_db: float
    ssim_amplitude: float
    ssim_phase: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """Down to which size two images agree, by Fourier ring correlation.

    ``half_bit`` and ``one_bit`` are of the complex images, ``phase`` of the phases
    alone (half-bit). The curve is the complex one, with its half-bit threshold.
    """

    half_bit: Resolution
    one_bit: Resolution
    phase: Resolution
    frequency_per_m: tuple[float, ...]
    correlation: tuple[float, ...]
    threshold: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """A result against the truth, on the truth's grid.

    ``paper`` knows no ambiguity but the phase offset and the amplitude's median;
    ``aligned`` takes shift and ramp out first. The two ``flat`` ones are what an
    empty object gets. ``probe_error`` is √(1 - overlap²) with the truth, in 0..1, up
    to scale, shift, ramp and a unitary mix of modes; NaN without two probes.
    ``region_px`` pixels were scored, ``covered`` of those asked for.
    """

    paper: ImageScore
    aligned: ImageScore
    flat_paper: ImageScore
    flat_aligned: ImageScore
    frc: Agreement
    alignment: Alignment
    probe_error: float
    probe_alignment: Alignment | None
    region_px: int
    covered: float

    def as_dict(self) -> dict[str, Any]:
        """Return nested plain values, safe for JSON: what is not finite is None."""
        return _plain(dataclasses.asdict(self))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two results of the same sample, the second aligned to the first."""

    frc: Agreement
    alignment: Alignment
    region_px: int
    covered: float

    def as_dict(self) -> dict[str, Any]:
        """Return nested plain values, safe for JSON: what is not finite is None."""
        return _plain(dataclasses.asdict(self))


def score(
    result: Placed,
    truth: Placed,
    *,
    margin_px: int = 0,
    min_coverage: float = 0.1,
    max_shift_px: int = 6,
) -> Score:
    """Score the result; raise FileFormatError if it can't be laid over the truth.

    The region is the truth without a margin (PtyINR's evaluation crops 30 pixels),
    where the result lies and both coverages reach min_coverage.
    """
    pair = _overlaid(result, truth, margin_px, min_coverage)
    t, weights = pair.truth, pair.region.astype(np.float64)
    moved, alignment = align(pair.result, t, weights, max_shift_px=max_shift_px)
    flat = Lookup(np.ones_like(t), *(np.arange(float(n)) for n in t.shape))
    tilted, _ = align(flat, t, weights, max_shift_px=0)
    probe_error, probe_alignment = _probe_score(result, truth, max_shift_px)
    return Score(
        paper=_image_score(pair.result.at(), t, pair.region),
        aligned=_image_score(moved, t, pair.region),
        flat_paper=_image_score(flat.image, t, pair.region),
        flat_aligned=_image_score(tilted, t, pair.region),
        frc=_agreement(moved, t, truth.pixel_m, pair.region),
        alignment=alignment,
        probe_error=probe_error,
        probe_alignment=probe_alignment,
        region_px=int(pair.region.sum()),
        covered=pair.covered,
    )


def compare(
    second: Placed,
    first: Placed,
    *,
    margin_px: int = 0,
    min_coverage: float = 0.1,
    max_shift_px: int = 6,
) -> Comparison:
    """Correlate two results, such as those of a scan's odd and even frames.

    Raise FileFormatError if they don't overlap. The first one's grid is used.
    """
    pair = _overlaid(second, first, margin_px, min_coverage)
    weights = pair.region.astype(np.float64)
    moved, alignment = align(
        pair.result, pair.truth, weights, max_shift_px=max_shift_px
    )
    return Comparison(
        frc=_agreement(moved, pair.truth, first.pixel_m, pair.region),
        alignment=alignment,
        region_px=int(pair.region.sum()),
        covered=pair.covered,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """The truth cut to the region's bounding box, and the result to be read there."""

    result: Lookup
    truth: Complex[np.ndarray, "h w"]
    region: Bool[np.ndarray, "h w"]
    covered: float


def _overlaid(
    result: Placed, truth: Placed, margin_px: int, min_coverage: float
) -> _Pair:
    """Return the two on the truth's grid; raise FileFormatError if they don't meet."""
    image, target = _projected(result, "result"), _projected(truth, "truth")
    grid = Grid(result.pixel_m, result.origin_m)
    truth_grid = Grid(truth.pixel_m, truth.origin_m)
    rows, cols = grid.coordinates(truth_grid, target.shape)
    asked = _margin(target.shape, margin_px) & _covered(truth, min_coverage)
    region = asked & _seen(result, rows, cols, min_coverage)
    box = _box(region)
    if min(s.stop - s.start for s in box) < LEAST_PX:
        raise FileFormatError(
            f"result of {image.shape} pixels at {result.origin_m} m covers "
            f"{int(region.sum())} of the {int(asked.sum())} pixels asked for of the "
            f"truth at {truth.origin_m} m: expected at least {LEAST_PX} a side"
        )
    lookup = Lookup(image, rows[box[0]], cols[box[1]])
    for name, values in (("result", lookup.at()), ("truth", target[box])):
        if not np.any(values[region[box]]):
            raise FileFormatError(f"the {name}'s object is zero all over the region")
    return _Pair(lookup, target[box], region[box], float(region.sum() / asked.sum()))


def _projected(placed: Placed, name: str) -> Complex[np.ndarray, "h w"]:
    """Return the product over slices; raise FileFormatError if it isn't finite."""
    if placed.object.ndim != 3:
        raise FileFormatError(
            f"{name}: object has shape {placed.object.shape}: expected [slices, H, W]"
        )
    image = np.prod(placed.object.astype(np.complex128), axis=0)
    if not np.isfinite(image).all():
        raise FileFormatError(f"{name}: the object holds values that aren't finite")
    return image


def _margin(shape: tuple[int, int], margin_px: int) -> Bool[np.ndarray, "h w"]:
    if margin_px < 0:
        raise ConfigError(f"margin of {margin_px} pixels: expected 0 or more")
    mask = np.zeros(shape, bool)
    mask[margin_px : shape[0] - margin_px, margin_px : shape[1] - margin_px] = True
    return mask


def _covered(placed: Placed, least: float) -> Bool[np.ndarray, "h w"]:
    if placed.coverage is None:
        return np.ones(placed.object.shape[-2:], bool)
    return placed.coverage >= least


def _seen(
    result: Placed,
    rows: Float[np.ndarray, " h"],
    cols: Float[np.ndarray, " w"],
    least: float,
) -> Bool[np.ndarray, "h w"]:
    """Return where the other grid's pixels fall on covered pixels of the result."""
    covered = np.pad(_covered(result, least), 1)
    y, x = (
        np.clip(np.rint(p), -1, n).astype(np.intp) + 1
        for p, n in zip((rows, cols), result.object.shape[-2:], strict=True)
    )
    return covered[y[:, None], x[None, :]]


def _box(region: Bool[np.ndarray, "h w"]) -> tuple[slice, slice]:
    """Return the bounding box of the true pixels; empty slices if there are none."""
    ends = []
    for axis in (1, 0):
        lit = np.flatnonzero(region.any(axis=axis))
        ends.append(slice(int(lit[0]), int(lit[-1]) + 1) if len(lit) else slice(0, 0))
    return ends[0], ends[1]


def _image_score(
    result: Complex[np.ndarray, "h w"],
    truth: Complex[np.ndarray, "h w"],
    region: Bool[np.ndarray, "h w"],
) -> ImageScore:
    """Score on the region; phases are compared around the truth's mean phase."""
    r, t = result[region], truth[region]
    amplitude, phase, error = (np.zeros(truth.shape) for _ in range(3))
    amplitude[region] = metrics.scaled_amplitude(r, t)
    phase[region] = np.angle(t * np.exp(-1j * metrics.circular_offset(np.angle(t))))
    error[region] = metrics.phase_error_rad(r, t)
    return ImageScore(
        psnr_amplitude_db=metrics.psnr_amplitude_db(r, t),
        psnr_phase_db=metrics.psnr_phase_db(r, t),
        ssim_amplitude=metrics.ssim(
            amplitude, np.abs(truth), metrics.MAX_AMPLITUDE, region
        ),
        ssim_phase=metrics.ssim(phase + error, phase, metrics.MAX_PHASE_RAD, region),
    )


def _agreement(
    a: Complex[np.ndarray, "h w"],
    b: Complex[np.ndarray, "h w"],
    pixel_m: tuple[float, float],
    region: Bool[np.ndarray, "h w"],
) -> Agreement:
    window = metrics.soft_window(region)
    whole = metrics.frc(a, b, pixel_m, window)
    phase = np.angle(b * np.exp(-1j * metrics.circular_offset(np.angle(b[region]))))
    other = phase + np.angle(a * b.conj())
    return Agreement(
        half_bit=whole.resolution(),
        one_bit=whole.resolution("one"),
        phase=metrics.frc(other, phase, pixel_m, window).resolution(),
        frequency_per_m=tuple(whole.frequency_per_m.tolist()),
        correlation=tuple(whole.correlation.tolist()),
        threshold=tuple(whole.threshold().tolist()),
    )


def _probe_score(
    result: Placed, truth: Placed, max_shift_px: int
) -> tuple[float, Alignment | None]:
    """Return √(1 - overlap²) of the aligned probes, and the strongest modes' fit."""
    if result.probe is None or truth.probe is None:
        return float("nan"), None
    mine, theirs = _orthogonal(result.probe), _orthogonal(truth.probe)
    if not (mine.any() and theirs.any()):
        return 1.0, None
    rows, cols = _centred(result, mine).coordinates(
        _centred(truth, theirs), theirs.shape[-2:]
    )
    modes = [Lookup(np.pad(mode, 1), rows + 1, cols + 1) for mode in mine]
    even = np.ones(theirs.shape[-2:])
    _, fit = align(modes[0], theirs[0], even, max_shift_px=max_shift_px)
    return _mixed_error(modes, theirs, fit), fit


def _mixed_error(
    modes: list[Lookup], truth: Complex[np.ndarray, "m k l"], fit: Alignment
) -> float:
    """Return √(1 - overlap²): scale and any unitary mix of the modes are free.

    The best mix is the polar part of the modes' inner products, so the overlap is
    their nuclear norm. The frame of zeros around each mode is where it is dark.
    """
    y, x = (
        np.exp(-1j * k * np.arange(n))
        for n, k in zip(truth.shape[-2:], fit.ramp_rad_px, strict=True)
    )
    level = y[:, None] * x[None, :]
    moved = np.stack([level * mode.at(fit.shift_px) for mode in modes])
    inner = np.einsum("mij,nij->mn", truth, moved.conj())
    common = np.linalg.svd(inner, compute_uv=False).sum() ** 2
    energies = (np.abs(truth) ** 2).sum() * (np.abs(moved) ** 2).sum()
    return float(np.sqrt(max(0.0, 1 - common / energies)))


def _centred(placed: Placed, probe: Complex[np.ndarray, "m k l"]) -> Grid:
    """Return the probe's grid, with pixel [K//2, K//2] at the origin."""
    y, x = (
        -(n // 2) * p for n, p in zip(probe.shape[-2:], placed.pixel_m, strict=True)
    )
    return Grid(placed.pixel_m, (y, x))


def _orthogonal(
    probe: Complex[np.ndarray, "m k l"],
) -> Complex[np.ndarray, "m k l"]:
    """Return the same mixed state in orthogonal modes, the strongest first."""
    flat = probe.reshape(len(probe), -1).astype(np.complex128)
    if not np.isfinite(flat).all():
        raise FileFormatError("a probe holds values that aren't finite")
    _, powers, modes = np.linalg.svd(flat, full_matrices=False)
    return (powers[:, None] * modes).reshape(probe.shape)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
