# pyright: reportMissingImports=false
"""pty-chi: LSQML, ePIE, DM and AD.

Settings: ``batch`` (0: all frames), ``object`` and ``probe`` (step sizes), ``adam``
(AD: Adam instead of SGD), ``momentum`` (LSQML: acceleration), ``positions`` (step size
of the positions, where they are known to be inexact).
"""

import sys
from typing import Any

import numpy as np
from common import Race, mend_torchvision

MARGIN_PX = 24
"""Of the object around what is lit."""


def main() -> int:
    """Run one method until the time is up."""
    race = Race()
    import torch

    torch.set_num_threads(race.threads)
    mend_torchvision()
    import ptychi
    from ptychi.api.task import PtychographyTask

    task = PtychographyTask(_options(race))
    iterations = 0
    while not race.over():
        task.run(1)
        iterations += 1
        if race.due():
            image = task.get_data_to_cpu("object", as_numpy=True)[0]
            probe = task.get_data_to_cpu("probe", as_numpy=True)[0]
            # Pixel [H/2, W/2] of the object lies at the positions' origin.
            origin = tuple(-(n / 2) for n in image.shape)
            if not race.keep(image, probe, origin):
                break
    race.done(iterations, ptychi=ptychi.__version__, torch=torch.__version__)
    return 0


def _options(race: Race) -> Any:
    """Return the task: scales, sizes and positions as its examples have them."""
    import torch
    from ptychi import api
    from ptychi.utils import get_suggested_object_size, rescale_probe

    kinds = {
        "lsqml": api.LSQMLOptions,
        "epie": api.EPIEOptions,
        "dm": api.DMOptions,
        "ad": api.AutodiffPtychographyOptions,
    }
    options, settings = kinds[race.method](), race.settings
    size = race.probe.shape[-2:]
    extent = get_suggested_object_size(race.positions_px, size, extra=2 * MARGIN_PX)
    extent = [n + n % 2 for n in extent]
    options.data_options.data = race.frames
    options.data_options.valid_pixel_mask = torch.from_numpy(race.mask)
    options.object_options.initial_guess = torch.ones(
        [1, *extent], dtype=torch.complex64
    )
    options.object_options.pixel_size_m = 1e-8
    probe = torch.from_numpy(race.probe)[None]
    options.probe_options.initial_guess = rescale_probe(probe, race.frames)
    places = options.probe_position_options
    places.position_y_px, places.position_x_px = race.positions_px.T.astype(np.float32)
    places.optimizable = race.refine_positions
    if race.refine_positions:
        places.step_size = settings.get("positions", 0.1)
    options.reconstructor_options.num_epochs = 1
    options.reconstructor_options.batch_size = race.batch()
    optimizer = api.Optimizers.ADAM if settings.get("adam") else api.Optimizers.SGD
    for name in ("object", "probe"):
        if name in settings:
            part = getattr(options, f"{name}_options")
            part.optimizer, part.step_size = optimizer, settings[name]
    if race.method == "epie":  # its alphas are 0.1, on top of the step sizes
        options.object_options.alpha = options.probe_options.alpha = 1.0
    if race.method == "lsqml":
        gain = settings.get("momentum", 0.0)
        options.reconstructor_options.momentum_acceleration_gain = gain
    if race.method == "dm":
        options.reconstructor_options.chunk_length = race.batch()
    return options


if __name__ == "__main__":
    sys.exit(main())
