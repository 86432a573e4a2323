"""Simulated scans, as the offline command would read them, and their truths."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ptystream.recon.score import Image
from ptystream.service.offline import Acquired
from ptystream.service.scan import Extras
from ptystream.sim.experiment import Experiment, build
from ptystream.sim.settings import preset
from ptystream.wire.messages import Exposure, Frame, ScanStart


@dataclass(frozen=True)
class Scene:
    """A scan and its truth, which only the score sees (and a known probe)."""

    name: str
    scan: Acquired
    truth: Image
    slice_m: float | None

    def knowing_its_probe(self) -> Acquired:
        """Return the scan with the true probe beside it."""
        return Acquired(self.scan.start, self.scan.exposures, Extras(self.truth.probe))


@lru_cache(maxsize=4)
def scene(name: str, *changes: tuple[str, Any]) -> Scene:
    """Simulate a preset, with changes such as ("scan.shape", (30, 30))."""
    tree: dict[str, Any] = {}
    for key, value in changes:
        *rooms, last = key.split(".")
        place = tree
        for room in rooms:
            place = place.setdefault(room, {})
        place[last] = value
    experiment = build(preset(name, tree))
    t = experiment.truth
    return Scene(
        name,
        _acquired(name, experiment),
        Image(t.object, t.pixel_m, t.origin_m, t.probe),
        t.slice_m,
    )


def _acquired(name: str, experiment: Experiment) -> Acquired:
    """Return the scan as a file would hold it: metadata are nominal values."""
    size = experiment.settings.detector.size_px
    start = ScanStart(
        name,
        "det",
        shape=(size, size),
        dtype="<u4",
        geometry=experiment.geometry,
        meta=experiment.meta,
    )
    exposures = []
    places = experiment.positions_m(0)
    for index, (counts, place) in enumerate(
        zip(experiment.frames(0), places, strict=True)
    ):
        y, x = (float(v) for v in place)
        frame = Frame(name, index, np.asarray(counts))
        exposures.append(Exposure(frame, (y, x), (y, x), (y, x)))
    return Acquired(start, exposures)
