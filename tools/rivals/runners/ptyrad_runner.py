# pyright: reportMissingImports=false
"""PtyRAD: Adam on amplitude, phase and probe.

Settings: ``batch`` (0: all frames), ``object`` and ``probe`` (rates). Its object pixel
is called 1 Angstrom; only ratios matter for a thin object.
"""

import logging
import sys
from typing import Any

import numpy as np
from common import Race, mend_torchvision

POSITION_RATE = 5e-4
"""Its template's."""
FOREVER = 1_000_000
KILOVOLTS, MILLIRADIAN = 300.0, 30.0
"""Of electrons: asked for, and without effect on a thin object and a given probe."""
OFF = (
    "obj_rblur",
    "obj_zblur",
    "kr_filter",
    "complex_ratio",
    "mirrored_amp",
    "obja_thresh",
    "objp_postiv",
)
"""Constraints for atoms: an amplitude of 0.6 must not be held near 1."""


def main() -> int:
    """Run until the time is up."""
    race = Race()
    import torch

    torch.set_num_threads(race.threads)
    mend_torchvision()
    import ptyrad
    from ptyrad.core import PtychoModel
    from ptyrad.solver import PtyRADSolver
    from ptyrad.solver.reconstruction import (
        compute_loss,
        create_optimizer,
        prepare_recon,
        recon_step,
        toggle_grad_requires,
    )

    logging.disable(logging.INFO)
    size = race.probe.shape[-1]
    corners = race.positions_px - race.positions_px.min(0) + size / 8
    solver = PtyRADSolver(_parameters(race, corners), device="cpu", seed=0)
    params = solver.params
    model = PtychoModel(
        solver.init.init_variables, params["model_params"], device="cpu"
    )
    optimizer = create_optimizer(model.optimizer_params, model.optimizable_params)
    _, batches, _ = prepare_recon(model, solver.init, params)
    batches = [torch.from_numpy(batch) for batch in batches]
    # Object pixel 0 is where a window would begin at corner 0.
    origin = tuple(race.positions_px.min(0) - size / 8 - size // 2)
    number = 0
    while not race.over():
        number += 1
        toggle_grad_requires(model, number)
        recon_step(
            batches,
            1,
            model,
            optimizer,
            None,
            solver.loss_fn,
            solver.constraint_fn,
            number,
            compute_loss_fn=compute_loss,
        )
        if race.due():
            a, p = (t.detach()[0, 0].numpy() for t in (model.opt_obja, model.opt_objp))
            probe = model.get_complex_probe_view().detach().numpy()
            if not race.keep(a * np.exp(1j * p), probe, origin):
                break
    race.done(number, ptyrad=ptyrad.__version__, torch=torch.__version__)
    return 0


def _parameters(race: Race, corners: np.ndarray) -> dict[str, Any]:
    """Return its parameters: the arrays themselves, its defaults for the rest."""
    from ptyrad.params.ptyrad_params import PtyRADParams

    rows, columns = race.shape
    size = race.probe.shape[-1]
    modes = len(race.probe)
    rates = {
        "obja": race.settings["object"],
        "objp": race.settings["object"],
        "probe": race.settings["probe"],
        "probe_pos_shifts": POSITION_RATE if race.refine_positions else 0.0,
        "obj_tilts": 0.0,
        "slice_thickness": 0.0,
    }
    told = {
        "init_params": {
            "probe_kv": KILOVOLTS,
            "probe_conv_angle": MILLIRADIAN,
            "meas_Npix": size,
            "pos_N_scans": rows * columns,
            "pos_N_scan_slow": rows,
            "pos_N_scan_fast": columns,
            "pos_scan_step_size": race.step_px,
            "pos_scan_rand_std": None,
            "meas_calibration": {"mode": "dx", "value": 1.0},
            "probe_pmode_max": modes,
            "obj_Nlayer": 1,
            "obj_slice_thickness": 1.0,
            "meas_source": "custom",
            "meas_params": race.frames,
            "probe_source": "custom",
            "probe_params": race.probe,
            "pos_source": "custom",
            "pos_params": corners,
        },
        "model_params": {
            "update_params": {
                name: {"start_iter": 1 if rate else None, "lr": rate, "end_iter": None}
                for name, rate in rates.items()
            }
        },
        "constraint_params": {name: {"start_iter": None} for name in OFF},
        "recon_params": {
            "NITER": FOREVER,
            "BATCH_SIZE": {"size": race.batch(), "grad_accumulation": 1},
            "GROUP_MODE": "random",
            "SAVE_ITERS": None,
        },
    }
    return PtyRADParams(**told).model_dump()


if __name__ == "__main__":
    sys.exit(main())
