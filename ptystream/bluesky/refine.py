"""Scan once more where the live image deserves the least confidence."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import bluesky.plan_stubs as bps
import numpy as np
import zmq
import zmq.asyncio
from bluesky.protocols import Flyable
from bluesky.utils import MsgGenerator

from ptystream.bluesky.device import PtychoLive
from ptystream.bluesky.plans import Flown, fly_ptycho
from ptystream.errors import StoppedError
from ptystream.publish.images import Image, Picture, decode_picture
from ptystream.wire.curve import ClientKeys

LIT = 0.25
"""Of the coverage's 90th percentile: what is scanned at all reaches so much."""
MAX_PART_BYTES = 64 << 20
"""Of a preview; a larger message is never allocated."""
Point = tuple[float, float]


def weakest(
    values: np.ndarray, coverage: np.ndarray, window: tuple[int, int], count: int
) -> list[tuple[int, int]]:
    """Return centres (row, column) of the windows with the smallest mean, worst first.

    Windows lie within the box that the coverage ``[h, w]`` shows to be scanned, beyond
    which a map is always weak, and no two overlap; there may be fewer than ``count``.
    """
    top, bottom, left, right = _scanned(coverage)
    h, w = (
        min(n, m) for n, m in zip(window, (bottom - top, right - left), strict=True)
    )
    inside = np.nan_to_num(values[top:bottom, left:right].astype(np.float64))
    sums = np.pad(inside.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    means = (sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]) / (h * w)
    found: list[tuple[int, int]] = []
    while len(found) < count and np.isfinite(means).any():
        row, column = np.unravel_index(np.nanargmin(means), means.shape)
        found.append((int(top + row + h // 2), int(left + column + w // 2)))
        means[max(0, row - h + 1) : row + h, max(0, column - w + 1) : column + w] = (
            np.nan
        )
    return found


def places(image: Image, coverage: Image, window_m: Point, count: int) -> list[Point]:
    """Return centres (y, x) in metres of the windows that deserve least confidence."""
    window = tuple(
        max(1, round(m / p)) for m, p in zip(window_m, image.pixel_m, strict=True)
    )
    lit = coverage.values()
    spots = weakest(image.values(), lit, (window[0], window[1]), count)
    (oy, ox), (py, px) = image.origin_m, image.pixel_m
    return [(oy + row * py, ox + column * px) for row, column in spots]


async def newest_picture(
    preview: str, timeout_s: float = 5.0, keys: ClientKeys | None = None
) -> Picture:
    """Return the newest preview, which the service sends to each newcomer.

    Raises:
        StoppedError: none came in time.
        DecodeError: it is none.
    """
    with zmq.asyncio.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_PART_BYTES)
        if keys is not None:
            keys.apply(socket)
        socket.subscribe(b"")
        socket.connect(preview)
        try:
            parts = await asyncio.wait_for(socket.recv_multipart(), timeout_s)
        except TimeoutError:
            raise StoppedError(
                f"no preview from {preview} in {timeout_s:g} s"
            ) from None
    return decode_picture(parts)


def refine_here(
    live: PtychoLive,
    flyers: Sequence[Flyable],
    stages: Sequence[Any],
    preview: str,
    *,
    window_m: Sequence[float],
    count: int = 1,
    unit_m: float = 1e-6,
    md: Mapping[str, Any] | None = None,
    keys: ClientKeys | None = None,
    **fly: Any,
) -> MsgGenerator[list[Flown]]:
    """Fly again where the last image is weakest; return the flights.

    By the confidence that the service publishes, else by the coverage.

    Args:
        live: the service.
        flyers: what moves and exposes within a window.
        stages: ``[stage_y, stage_x]``, which bring a place into the beam.
        preview: the service's preview address.
        window_m: height and width of what a flight covers, in metres.
        count: how many places, the weakest first.
        unit_m: metres in a stage's unit.
        md: metadata of the runs; each says where it ``refines`` besides.
        keys: of a service with ``publish.curve``.
        fly: further arguments of ``fly_ptycho``.
    """
    (task,) = yield from bps.wait_for([lambda: newest_picture(preview, keys=keys)])
    image, coverage = maps(task.result())
    flights: list[Flown] = []
    for y_m, x_m in places(image, coverage, (window_m[0], window_m[1]), count):
        yield from bps.mv(stages[0], y_m / unit_m, stages[1], x_m / unit_m)
        meta = {"plan_name": "refine_here", "refines": {"y_m": y_m, "x_m": x_m}}
        meta |= {"by": image.name, **(md or {})}
        flights.append((yield from fly_ptycho(live, flyers, md=meta, **fly)))
    return flights


def maps(picture: Picture) -> tuple[Image, Image]:
    """Return the map to go by, and the coverage.

    Raises:
        StoppedError: the preview has no coverage.
    """
    by_name = {image.name: image for image in picture.images}
    coverage = by_name.get("coverage")
    if coverage is None:
        raise StoppedError(f"a preview without coverage: {sorted(by_name)}")
    return by_name.get("confidence", coverage), coverage


def _scanned(coverage: np.ndarray) -> tuple[int, int, int, int]:
    """Return the box (top, bottom, left, right) of what is scanned at all."""
    finite = np.nan_to_num(coverage)
    lit = finite > LIT * np.percentile(finite[finite > 0], 90) if finite.any() else None
    if lit is None:
        raise StoppedError("nothing is scanned yet: no place is weaker than another")
    rows, columns = np.flatnonzero(lit.any(1)), np.flatnonzero(lit.any(0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
