# pyright: reportMissingImports=false
"""quantEM: pixels, and its deep generative priors begun from them.

Settings: ``batch`` (0: all frames), ``object`` and ``probe`` (rates), ``plateau``
(halve rates that no longer help), and for priors ``pixels`` (iterations before them)
and ``teach`` (iterations of their pre-training). Its object pixel is called 1 Angstrom.
"""

import sys
from typing import Any

import numpy as np
from common import Race

POSITION_RATE = 1e-3
"""Its default."""
KILOVOLTS = 300e3
"""Of electrons: asked for, and without effect on a thin object and a given probe."""
BRIGHTER = 1.5
"""The probe than what came through the object."""
PIXEL_RATES = {"object": 5e-3, "probe": 5e-3}
"""Of the pixels that priors begin from: its tutorials'."""


def main() -> int:
    """Run one method until the time is up."""
    race = Race()
    import torch

    torch.set_num_threads(race.threads)
    from importlib.metadata import version

    made = _pixels(race)
    done = 0
    if race.method == "dgp":
        done = _steps(race, made, PIXEL_RATES, race.settings["pixels"])
        made = _priors(race, made)
    done += _steps(race, made, race.settings, None)
    race.done(done, quantem=version("quantem"), torch=torch.__version__)
    return 0


def _steps(race: Race, made: Any, rates: dict, most: int | None) -> int:
    """Go through the frames until the time is up, or so often; return how often."""
    count = 0
    parameters: Any = _optimizers(race, rates)
    schedulers: Any = _schedulers(race) if race.settings.get("plateau") else None
    while not race.over() and count != most:
        made.reconstruct(
            num_iters=1,
            optimizer_params=parameters,
            scheduler_params=schedulers,
            batch_size=race.batch(),
        )
        parameters = schedulers = None
        count += 1
        if race.due() and not _keep(race, made):
            break
    return count


def _keep(race: Race, made: Any) -> bool:
    image = np.asarray(made.obj)[0]
    probe = np.fft.fftshift(np.asarray(made.probe), axes=(-2, -1))
    return race.keep(image, probe, tuple(race.positions_px.min(0) - _padding(race)))


def _optimizers(race: Race, rates: dict) -> dict[str, Any]:
    """Return Adam with decoupled decay for each, as its light-weight classes do."""
    names = ["object", "probe"]
    told = {name: {"name": "adamw", "lr": rates[name]} for name in names}
    if race.refine_positions:
        told["dataset"] = {"name": "adamw", "lr": POSITION_RATE}
    return told


def _schedulers(race: Race) -> dict[str, Any]:
    names = ["object", "probe", *(["dataset"] if race.refine_positions else [])]
    return {name: {"name": "plateau", "factor": 0.5} for name in names}


def _padding(race: Race) -> int:
    """Return the object's rim: half a window, and a little for rounding."""
    return race.probe.shape[-1] // 2 + 4


def _light(race: Race) -> float:
    """Return the factor on the counts that makes the probe's brightest pixel 1.

    Adam's steps are as long for the probe as for the object, whatever their scale.
    """
    peak = (np.abs(race.probe) ** 2).sum(0)
    return float(peak.sum() / peak.max() / race.frames.sum((1, 2)).mean())


def _pixels(race: Race) -> Any:
    """Return pixels with the scan's own positions in place of a raster's."""
    from quantem.diffractive_imaging.dataset_models import PtychographyDatasetRaster
    from quantem.diffractive_imaging.detector_models import DetectorPixelated
    from quantem.diffractive_imaging.object_models import ObjectPixelated
    from quantem.diffractive_imaging.probe_models import ProbePixelated
    from quantem.diffractive_imaging.ptychography import Ptychography

    size, padding = race.probe.shape[-1], _padding(race)
    rows, columns = race.shape
    extent = np.ptp(race.positions_px, axis=0)
    steps = [e / max(n - 1, 1) for e, n in zip(extent, race.shape, strict=True)]
    frames = race.frames * _light(race)
    data = PtychographyDatasetRaster.from_array(
        frames.reshape(rows, columns, size, size),
        # A pixel more than the scan's extent, for the object has whole pixels.
        sampling=(*(max(s, 1.0) for s in steps), 1 / size, 1 / size),
        units=["A", "A", "A^-1", "A^-1"],
        detector_mask=race.mask.astype(np.float32),
        verbose=0,
        learn_descan=False,
        learn_scan_positions=race.refine_positions,
    )
    data.preprocess(
        com_fit_function="no_shift",
        force_com_rotation=0,
        force_com_transpose=False,
        obj_padding_px=(padding, padding),
        plot_rotation=False,
        plot_com=False,
    )
    # Its amplitudes end at 1, and it takes the mean light for the probe's: an object
    # that absorbs would need more than that.
    data.mean_diffraction_intensity *= BRIGHTER
    # Its probe has the middle in the corner.
    first = np.fft.ifftshift(race.probe, axes=(-2, -1))
    made = Ptychography.from_models(
        dset=data,
        obj_model=ObjectPixelated.from_uniform(obj_type="complex", device="cpu"),
        probe_model=ProbePixelated.from_array(
            first, probe_params={"energy": KILOVOLTS}, device="cpu"
        ),
        detector_model=DetectorPixelated(),
        device="cpu",
        verbose=0,
        rng=0,
    )
    made.preprocess(obj_padding_px=(padding, padding))
    middles = race.positions_px - race.positions_px.min(0) + padding
    data.scan_positions_px = middles.astype(np.float32)
    data.initial_scan_positions_px = data.scan_positions_px.data.clone()
    # It knows rasters alone, and rounds its padding up, on which the indices depend.
    data._set_patch_indices(made.obj_padding_px)  # noqa: SLF001
    return made


def _priors(race: Race, pixels: Any) -> Any:
    """Return networks for object and probe, taught what the pixels found.

    Its own call teaches to the end, which on a processor takes minutes; here it is cut
    at half the time.
    """
    from quantem.diffractive_imaging.ptychography import Ptychography
    from quantem.diffractive_imaging.ptychography_lite import PtychoLiteDIP

    made = PtychoLiteDIP.from_ptycholite(pixels, pretrain_iters=1, verbose=0)
    count = 1
    while count < race.settings["teach"] and race.cpu_s < race.seconds / 2:
        made.obj_model.pretrain(num_iters=1, show=False)
        made.probe_model.pretrain(num_iters=1, show=False)
        count += 1
    # The light class's own call takes rates alone; its parent's is used for both.
    made.__class__ = Ptychography
    return made


if __name__ == "__main__":
    sys.exit(main())
