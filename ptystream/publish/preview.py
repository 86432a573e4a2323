"""Snapshots as small pictures for live eyes."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Literal

import numpy as np

from ptystream.publish import view
from ptystream.publish.images import Image, Picture
from ptystream.publish.metadata import clean
from ptystream.publish.sink import FrameCounts, RunEnd, RunInfo
from ptystream.recon.snapshot import Latest, Snapshot

MAX_PX = 512
MAX_MODES = 4
"""Probe modes shown; the strongest are expected first."""
PATTERN_PX = 256
PLACES = 4096
"""Places of exposures shown: 32 kB; of more, every second, third, ... and the last."""

Depth = Literal["u1", "f4"]


def make_preview(
    snapshot: Snapshot, max_px: int = MAX_PX, depth: Depth = "u1"
) -> Picture:
    """Return object amplitude and phase, coverage, and the probe's first modes.

    Slices are multiplied. The phase has its mean and ramp over the lit area removed.
    The longer side of the object is at most ``max_px``, of the probe half of that.
    Where the snapshot has it, the confidence follows the coverage.
    """
    factor = view.shrink_factor(snapshot.object.shape, max_px)
    plane = view.flatten(
        view.projection(snapshot.object), view.lit(snapshot.coverage)
    ).astype(np.complex64)
    pixel_m = (snapshot.pixel_m[0] * factor, snapshot.pixel_m[1] * factor)
    shift = (factor - 1) / 2
    origin_m = (
        snapshot.origin_m[0] + shift * snapshot.pixel_m[0],
        snapshot.origin_m[1] + shift * snapshot.pixel_m[1],
    )
    planes = {
        "object_amplitude": view.shrink(np.abs(plane), factor),
        "object_phase": np.angle(view.shrink(plane, factor)),
        "coverage": view.shrink(snapshot.coverage, factor),
    }
    if snapshot.confidence is not None:
        planes["confidence"] = view.shrink(snapshot.confidence, factor)
    lit = view.lit(planes["coverage"])
    images = [
        _image(n, p, pixel_m, origin_m, depth, _span(n, p, lit))
        for n, p in planes.items()
    ]
    return Picture(
        (*images, *_probe_images(snapshot, max_px // 2, depth)), _about(snapshot)
    )


class PreviewSink:
    """Makes previews in its sink thread and hands them to ``ControlServer.show``."""

    name = "preview"

    def __init__(
        self,
        show: Callable[[Picture], None],
        max_px: int = MAX_PX,
        depth: Depth = "u1",
    ) -> None:
        self._show = show
        self._max_px = max_px
        self._depth: Depth = depth
        self._names: dict[str, object] = {}

    def start(self, info: RunInfo) -> None:
        """Remember whose pictures these are."""
        geometry = clean(info.provenance.get("geometry") or {})
        self._names = {"run": info.run, "scan": info.scan, "geometry": geometry}

    def update(self, snapshot: Snapshot, frames: FrameCounts) -> None:
        """Show the snapshot."""
        picture = make_preview(snapshot, self._max_px, self._depth)
        images = (*picture.images, places(snapshot))
        if snapshot.latest is not None:
            images = (*images, pattern(snapshot.latest))
        self._show(Picture(images, {**picture.about, **self._names}))

    def stop(self, snapshot: Snapshot | None, frames: FrameCounts, end: RunEnd) -> None:
        """Show the final snapshot."""
        if snapshot is not None:
            self.update(snapshot, frames)

    def close(self) -> None:
        """Hold nothing, release nothing."""


def places(snapshot: Snapshot) -> Image:
    """Return where exposures were taken, as float32 ``[n, 2]`` (y, x) in metres.

    The newest is the last.
    """
    given = np.asarray(snapshot.positions_m, np.float32).reshape(-1, 2)
    some = given[:: max(1, -(-len(given) // PLACES))]
    if snapshot.latest is not None:
        newest = np.asarray(snapshot.latest.position_m, np.float32)
        some = np.vstack([some, newest])
    low, high = (float(f(some, initial=0.0)) for f in (np.min, np.max))
    return Image("places", some, low, high, (1.0, 1.0), (0.0, 0.0))


def pattern(latest: Latest) -> Image:
    """Return log10(1 + photons) of a pattern and its prediction, uint8 ``[2, k, k]``.

    The pixel is that of the detector: 1, or as many as were averaged.
    """
    both = np.nan_to_num(np.stack([latest.measured, latest.predicted]))
    factor = view.shrink_factor(both.shape, PATTERN_PX)
    decades = np.log10(1 + np.maximum(view.shrink(both, factor), 0))
    return _image("pattern", decades, (factor, factor), (0.0, 0.0), "u1")


def _probe_images(snapshot: Snapshot, max_px: int, depth: Depth) -> list[Image]:
    probe = np.nan_to_num(snapshot.probe[:MAX_MODES])
    factor = view.shrink_factor(probe.shape, max_px)
    pixel_m = (snapshot.pixel_m[0] * factor, snapshot.pixel_m[1] * factor)
    small = view.shrink(probe, factor)
    # Pixel [K/2, K/2] sits at the exposure's position.
    origin_m = tuple(
        (-(n // 2) + (factor - 1) / 2) * p
        for n, p in zip(probe.shape[-2:], snapshot.pixel_m, strict=True)
    )
    origin = (origin_m[0], origin_m[1])
    return [
        _image("probe_amplitude", np.abs(small), pixel_m, origin, depth),
        _image("probe_phase", np.angle(small), pixel_m, origin, depth),
    ]


def _about(snapshot: Snapshot) -> dict[str, object]:
    return {
        "step": int(snapshot.step),
        "exposures": int(snapshot.exposures),
        "slices": len(snapshot.object),
        "pixel_m": [float(p) for p in snapshot.pixel_m],
        "quality": asdict(snapshot.quality),
    }


def _image(
    name: str,
    plane: np.ndarray,
    pixel_m: tuple[float, float],
    origin_m: tuple[float, float],
    depth: Depth,
    span: tuple[float, float] | None = None,
) -> Image:
    plane = np.nan_to_num(plane).astype(np.float32)
    low, high = span if span and depth == "u1" else _range(name, plane)
    if depth == "u1":
        scaled = (np.clip(plane, low, high) - low) * (255 / (high - low))
        plane = np.round(scaled).astype(np.uint8)
    return Image(name, plane, low, high, pixel_m, origin_m)


def _span(name: str, plane: np.ndarray, lit: np.ndarray) -> tuple[float, float] | None:
    """Return what 256 levels are best spent on; None: as for any image.

    A weak phase of 0.1 rad on levels for 2π had four of them. What is not lit, and
    one pixel in a thousand, count only if they are near.
    """
    inside = plane[lit & np.isfinite(plane)]
    if not name.startswith("object") or inside.size == 0:
        return None
    low, high = np.percentile(inside, (0.1, 99.9)).tolist()
    room = max(high - low, 1e-3)
    low, high = (
        max(low - room, float(inside.min())),
        min(high + room, float(inside.max())),
    )
    return (low, high) if high > low else None


def _range(name: str, plane: np.ndarray) -> tuple[float, float]:
    if name.endswith("phase"):
        return -float(np.pi), float(np.pi)
    return 0.0, float(plane.max(initial=0.0)) or 1.0
