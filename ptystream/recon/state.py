"""What a reconstruction has learned, so that another may go on from there.

Exposures are not in it. They are given again, in any order; what was learned of each is
known by its index. A contest under way is left out: plain pixels that lead stay, smooth
ones are challenged again.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ptystream.errors import FileFormatError
from ptystream.recon.exposures import FIRST
from ptystream.recon.options import ReconOptions
from ptystream.recon.reconstruction import Reconstruction
from ptystream.recon.setting import FirstProbe, Setting
from ptystream.recon.tree import fill, tree_of

Tree = dict[str, Any]
PASSING = frozenset({"tiles", "_window", "_weights", "nuisance"})
"""What lasts for a step only, can be made again, or is kept by itself."""
BY_SLOT = frozenset(
    "offset_px log_brightness _offsets _lights _lever_px _host_lever_px _used".split()
)
"""What is learned of each exposure: kept by index."""


def learned(recon: Reconstruction) -> Tree | None:
    """Return the state, copied to the host; None while there is nothing to go on from.

    So it is before the first step, and while pixels are yet to teach a network.
    """
    stages, engine, exposures = recon.stages, recon.engine, recon.exposures
    if not (recon.opening.done and engine.steps) or stages.waiting:
        return None
    setting, chosen = recon.setting, recon.opening.chosen
    return {
        "probe": chosen.waves.detach().cpu().numpy().copy(),
        "origin": chosen.origin,
        "mask": setting.mask,
        "wide": setting.wide,
        "plain": not stages.network,
        "steps": engine.steps,
        "gauge": list(exposures.gauge),
        "parts": [tree_of(part, without=PASSING) for part in _parts(recon)],
        "shared": tree_of(recon.nuisance, without=BY_SLOT),
        "exposures": _rows(recon),
    }


class Learned:
    """A state on its way into a reconstruction that is made for it."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        rows = tree["exposures"] or {"index": []}
        self._row = {int(index): n for n, index in enumerate(rows["index"])}

    def made(self, setting: Setting, options: ReconOptions) -> Reconstruction:
        """Return a reconstruction that stands where the other stood, without exposures.

        Raises:
            FileFormatError: the state is that of another kind of reconstruction.
        """
        recon = Reconstruction(self._setting(setting), self._options(options))
        parts = _parts(recon)
        if len(parts) != len(self._tree["parts"]):
            raise FileFormatError(
                f"state of {len(self._tree['parts'])} parts, expected {len(parts)}"
            )
        for part, tree in zip(parts, self._tree["parts"], strict=True):
            fill(part, tree, recon.device)
        if recon.nuisance is not None:
            fill(recon.nuisance, self._tree["shared"], recon.device)
        recon.engine.steps = self._tree["steps"]
        recon.opening.chosen = FirstProbe(recon.setting.probe, recon.setting.origin)
        recon.opening.done = True
        return recon

    def after(self, recon: Reconstruction, index: int) -> None:
        """Put back what was learned of an exposure that was given again."""
        exposures = recon.exposures
        if exposures.count <= FIRST:  # they set the gauge, which is that of the state
            photons, unit = self._tree["gauge"]
            exposures.gauge = photons, unit
        row = self._row.pop(index, None)
        if row is None or recon.nuisance is None:
            return
        store = exposures.store
        slot = int(np.flatnonzero(store.index[: store.frames] == index)[-1])
        with torch.no_grad():
            for name, values in recon.nuisance.rows().items():
                kept = self._tree["exposures"][name][row]
                values[slot] = torch.tensor(kept).to(values)

    def _setting(self, setting: Setting) -> Setting:
        """Return the setting with the probe that it began with, and its mask."""
        tree = self._tree
        waves = torch.from_numpy(tree["probe"].copy())
        return replace(
            setting,
            probe=waves,
            origin=tree["origin"],
            mask=tree["mask"],
            wide=tree["wide"],
            last=None,
        )

    def _options(self, options: ReconOptions) -> ReconOptions:
        """Return the options with which it begins as what it had become."""
        objects = replace(options.object, warmup_steps=0)
        if self._tree["plain"]:
            objects = replace(objects, field="pixels")
        probes = replace(options.probe, pretrain_steps=0)
        return replace(options, object=objects, probe=probes)


def _parts(recon: Reconstruction) -> list[object]:
    """Return what learns, but for what it learns of each exposure."""
    stages = recon.stages
    halves = recon.halves.both if recon.halves is not None else ()
    return [
        stages.objects,
        stages.probes,
        recon.engine.optics,
        *(half.engine.objects for half in halves),
    ]


def _rows(recon: Reconstruction) -> Tree | None:
    """Return what has been learned of each exposure in the store, with its index."""
    if recon.nuisance is None:
        return None
    store = recon.store
    rows = recon.nuisance.rows()
    kept = {n: v[: store.frames].detach().cpu().numpy().copy() for n, v in rows.items()}
    return {"index": store.index[: store.frames].copy(), **kept}
