"""The picture of a scan's first exposures, before a reconstruction can begin."""

import numpy as np
import torch

from ptystream.models.field import Box
from ptystream.recon.learners import at_unit_light
from ptystream.recon.setting import Setting
from ptystream.recon.snapshot import Snapshot
from ptystream.recon.stxm import scanned
from ptystream.wire.messages import Exposure


def first_picture(setting: Setting, exposures: list[Exposure]) -> Snapshot:
    """Return transmission and phase as scanning shows them, in a single slice."""
    size = setting.size
    counts = torch.from_numpy(np.stack([e.frame.counts for e in exposures]) * 1.0)
    places = np.array([e.mean_m for e in exposures]) / setting.pixel_m
    corners = np.round(places - size / 2).astype(int)
    low, high = corners.min(0), corners.max(0) + size
    box = Box(*low.tolist(), *(high - low).tolist())
    probe = at_unit_light(setting.probe)
    light = probe.abs().square().sum(0).double()
    mask = None if setting.mask is None else torch.from_numpy(setting.mask)
    picture = scanned(counts.sqrt(), torch.from_numpy(corners), light, box, mask=mask)
    bright = counts.mean() if mask is None else counts[:, mask].mean()
    return Snapshot(
        object=picture[None].to(torch.complex64).numpy(),
        probe=(probe * bright.sqrt()).to(torch.complex64).numpy(),
        coverage=_coverage(corners - low, light / light.max(), box),
        origin_m=(box.y * setting.pixel_m[0], box.x * setting.pixel_m[1]),
        pixel_m=setting.pixel_m,
        positions_m=places * setting.pixel_m,
        step=0,
        exposures=len(exposures),
        rung="stxm",
        first_probe=setting.origin,
    )


def _coverage(corners: np.ndarray, light: torch.Tensor, box: Box) -> np.ndarray:
    """Return the light of all exposures, 1 = one probe's peak."""
    seen = np.zeros((box.h, box.w), np.float32)
    size = len(light)
    for y, x in corners:
        seen[y : y + size, x : x + size] += light.numpy()
    return seen
