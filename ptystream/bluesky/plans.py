"""Plans that fly a scan while the service reconstructs it, and stop when it is good.

All arguments but the devices are plain JSON, as a queue server gives them. Flyers move,
expose, or both; the ones that have a ``stop`` decide when the scan is over.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.protocols import (
    Flyable,
    Preparable,
    Stageable,
    Stoppable,
    WritesStreamAssets,
)
from bluesky.utils import MsgGenerator, RunEngineControlException
from ophyd_async.core import FlyMotorInfo, StandardDetector, TriggerInfo

from ptystream.bluesky.device import PtychoInfo, PtychoLive
from ptystream.bluesky.documents import frames_of, trimmed
from ptystream.bluesky.images import PtychoImages
from ptystream.bluesky.targets import Target
from ptystream.errors import ConfigError

log = logging.getLogger(__name__)

FLUSH_S = 0.1
"""Rows are collected, and the target looked at, so often."""
STREAM = "primary"


@dataclass(frozen=True, slots=True)
class Flown:
    """What became of a flight: the run, the derived run, and why it ended."""

    raw_uid: str
    derived_uid: str
    stopped_early: bool
    reason: str


def fly_ptycho(
    live: PtychoLive,
    flyers: Sequence[Flyable],
    *,
    prepare: Mapping[str, Any] | None = None,
    images: PtychoImages | None = None,
    snapshots: int = 64,
    frames: int | None = None,
    refine: bool = False,
    patience_s: float = 60.0,
    md: Mapping[str, Any] | None = None,
) -> MsgGenerator[Flown]:
    """Arm the service, fly, collect, close; return what became of it.

    Args:
        live: the service.
        flyers: what moves and exposes; at least one has a ``stop``.
        prepare: by flyer's name, what its ``prepare`` takes, as plain JSON.
        images: writes snapshots, at most ``snapshots``, as stream assets.
        snapshots: how many.
        frames: exposures expected; none: as ``md`` says.
        refine: wait until the result is final, not only until all frames are in.
        patience_s: fail if the service tells nothing new for so long.
        md: metadata of the run.
    """
    flight = _Flight(
        live, flyers, prepare or {}, images, snapshots, None, refine, patience_s
    )
    return (
        yield from _flown(flight, frames, {"plan_name": "fly_ptycho", **(md or {})})
    )


def fly_until(
    live: PtychoLive,
    flyers: Sequence[Flyable],
    *,
    quality: float | None = None,
    resolution_m: float | None = None,
    coverage: float | None = None,
    converged: bool = False,
    min_frames: int = 0,
    prepare: Mapping[str, Any] | None = None,
    images: PtychoImages | None = None,
    snapshots: int = 64,
    frames: int | None = None,
    refine: bool = False,
    patience_s: float = 60.0,
    md: Mapping[str, Any] | None = None,
) -> MsgGenerator[Flown]:
    """Fly as ``fly_ptycho`` does, and stop once the reconstruction is good enough.

    Why it stopped stands in the stop document's ``reason``, and in the last row.

    Args:
        live: the service.
        flyers: what moves and exposes; at least one has a ``stop``.
        quality: held-out error to come down to.
        resolution_m: resolution to come down to, in metres, of a service that was
            started with ``quality.halves = true``.
        coverage: share of the scanned area to be covered with enough dose.
        converged: stop when further frames of the same area no longer help.
        min_frames: never stop before so many.
        prepare: by flyer's name, what its ``prepare`` takes, as plain JSON.
        images: writes snapshots, at most ``snapshots``, as stream assets.
        snapshots: how many.
        frames: exposures expected; none: as ``md`` says.
        refine: wait until the result is final, not only until all frames are in.
        patience_s: fail if the service tells nothing new for so long.
        md: metadata of the run.

    Raises:
        ValueError: neither quality, resolution_m, coverage nor converged is given.
        ConfigError: a resolution is wanted, and the service does not measure it.
    """
    target = Target(quality, resolution_m, coverage, converged, min_frames)
    asked = {"quality": quality, "resolution_m": resolution_m, "coverage": coverage}
    told = {name: value for name, value in asked.items() if value is not None}
    told |= {"converged": True} if converged else {}
    meta = {"plan_name": "fly_until", "target": told, **(md or {})}
    flight = _Flight(
        live, flyers, prepare or {}, images, snapshots, target, refine, patience_s
    )
    if resolution_m is not None:
        yield from _measures_resolution(live)
    return (yield from _flown(flight, frames, meta))


def tile_until(
    live: PtychoLive,
    flyers: Sequence[Flyable],
    stages: Sequence[Any],
    tiles: Sequence[Sequence[float]],
    *,
    attempts: int = 2,
    md: Mapping[str, Any] | None = None,
    **until: Any,
) -> MsgGenerator[list[Flown]]:
    """Fly each tile until it is good enough, then the next; return all flights.

    Args:
        live: the service.
        flyers: what moves and exposes within a tile.
        stages: what brings a tile into the beam, such as ``[stage_y, stage_x]``.
        tiles: a position for each stage, tile by tile.
        attempts: how often a tile is flown that does not reach the target.
        md: metadata of the runs; each says its ``tile`` and ``attempt`` besides.
        until: the arguments of ``fly_until``.
    """
    flights: list[Flown] = []
    for number, centre in enumerate(tiles):
        moves = [part for pair in zip(stages, centre, strict=True) for part in pair]
        yield from bps.mv(*moves)
        for attempt in range(attempts):
            meta = {"plan_name": "tile_until", "tile": number, "attempt": attempt}
            meta |= {"tile_centre": list(centre), "tiles": len(tiles), **(md or {})}
            flown = yield from fly_until(live, flyers, md=meta, **until)
            flights.append(flown)
            if flown.stopped_early:
                break
    return flights


def ask(live: PtychoLive, cmd: str, **args: Any) -> MsgGenerator[dict[str, Any]]:
    """Ask the service: ``hold``, ``resume``, ``save``, …; return its reply's result."""
    (task,) = yield from bps.wait_for([lambda: live.link.ask(cmd, **args)])
    return task.result()


def _measures_resolution(live: PtychoLive) -> MsgGenerator[None]:
    """Refuse, before anything moves, to wait for a resolution that nobody measures."""
    if not (yield from bps.rd(live.halves)):
        raise ConfigError(
            f"resolution_m: the service at {live.link.control} does not measure it; "
            "start it with quality.halves = true"
        )


@dataclass(slots=True)
class _Flight:
    """What a flight is made of; ``described`` once the live stream is declared."""

    live: PtychoLive
    flyers: Sequence[Any]
    prepare: Mapping[str, Any]
    images: PtychoImages | None
    snapshots: int
    target: Target | None
    refine: bool
    patience_s: float
    described: bool = False

    @property
    def leaders(self) -> list[Any]:
        """Flyers that can be stopped: their end is the scan's."""
        return [f for f in self.flyers if isinstance(f, Stoppable)]

    @property
    def writers(self) -> list[Any]:
        """Detectors that write files, which are collected together."""
        return [f for f in self.flyers if isinstance(f, WritesStreamAssets)]

    @property
    def devices(self) -> list[Any]:
        """All that is staged."""
        extra = [] if self.images is None else [self.images]
        return [self.live, *self.flyers, *extra]


def _flown(
    flight: _Flight, frames: int | None, md: Mapping[str, Any]
) -> MsgGenerator[Flown]:
    """Stage, open a run, fly in it, close it with the reason, unstage."""
    if not flight.leaders:
        raise ValueError("flyers: expected at least one with a stop()")
    unknown = set(flight.prepare) - {f.name for f in flight.flyers}
    if unknown:
        raise ValueError(f"prepare: no flyer is named {', '.join(sorted(unknown))}")
    staged = [d for d in flight.devices if isinstance(d, Stageable)]
    return (yield from bpp.stage_wrapper(_in_a_run(flight, frames, md), staged))


def _in_a_run(
    flight: _Flight, frames: int | None, md: Mapping[str, Any]
) -> MsgGenerator[Flown]:
    uid = yield from bps.open_run(dict(md))

    def failed(error: Exception) -> MsgGenerator[None]:
        status = getattr(error, "exit_status", "fail")
        known = isinstance(error, RunEngineControlException)
        reason = "" if known else str(error.__cause__ or error)
        yield from bps.close_run(exit_status=status if known else "fail", reason=reason)

    def flown() -> MsgGenerator[Flown]:
        info = PtychoInfo(
            uid,
            trimmed(md)[0],
            frames or frames_of(trimmed(md)[0]),
            until="refined" if flight.refine else "frames",
            patience_s=flight.patience_s,
        )
        early = yield from _fly(flight, info)
        reason = early or "all frames are in"
        yield from bps.close_run(exit_status="success", reason=reason)
        derived = flight.live.values().derived_uid
        return Flown(uid, derived, bool(early), reason)

    return (yield from bpp.contingency_wrapper(flown(), except_plan=failed))


def _fly(flight: _Flight, info: PtychoInfo) -> MsgGenerator[str]:
    """Prepare, kick off, watch, collect; return why it was stopped early, if it was."""
    live, group = flight.live, f"fly-{info.uid}"
    yield from bps.prepare(live, info, wait=True)
    yield from _prepare(flight, info)
    yield from _declare(flight)
    yield from bps.kickoff_all(live, *flight.flyers, wait=True)
    if flight.images is not None:
        yield from bps.kickoff(flight.images, wait=True)
    for leader in flight.leaders:
        yield from bps.complete(leader, group=group, wait=False)
    # From now on: should the service die, this status fails, and the plan with it.
    yield from bps.complete(live, group=f"{group}-live", wait=False)
    early = yield from _watch(flight, group)
    if early:
        yield from _stop(flight, early, group)
    else:
        rest = [f for f in flight.flyers if f not in flight.leaders]
        for follower in rest:
            yield from bps.complete(follower, group=group, wait=False)
        yield from _wait(flight, group)
    yield from _wait(flight, f"{group}-live")
    yield from _collect(flight)
    return early


def _prepare(flight: _Flight, info: PtychoInfo) -> MsgGenerator[None]:
    for flyer in flight.flyers:
        value = flight.prepare.get(flyer.name)
        if isinstance(flyer, Preparable) and (
            value is not None or isinstance(flyer, StandardDetector)
        ):
            yield from bps.prepare(flyer, _typed(flyer, value), wait=True)
    if flight.images is not None:
        yield from bps.abs_set(flight.images.run_uid, info.uid, wait=True)
        trigger = TriggerInfo(number_of_events=flight.snapshots)
        yield from bps.prepare(flight.images, trigger, wait=True)


def _typed(flyer: Any, value: Any) -> Any:
    """Return what a flyer's prepare takes, of plain JSON."""
    if isinstance(flyer, StandardDetector):
        return TriggerInfo.model_validate(value or {})
    if isinstance(value, Mapping) and "start_position" in value:
        return FlyMotorInfo.model_validate(value)
    return value


def _streams(flight: _Flight) -> list[tuple[list[Any], str]]:
    """Return who is collected into which stream, beside the service."""
    streams: list[tuple[list[Any], str]] = []
    if flight.writers:
        streams.append((flight.writers, STREAM))
    if flight.images is not None:
        streams.append(([flight.images], flight.images.name))
    for flyer in flight.flyers:
        if flyer not in flight.writers and hasattr(flyer, "describe_collect"):
            streams.append(([flyer], flyer.name))
    return streams


def _declare(flight: _Flight) -> MsgGenerator[None]:
    for devices, name in _streams(flight):
        yield from bps.declare_stream(*devices, name=name, collect=True)


def _collect(flight: _Flight) -> MsgGenerator[None]:
    live = flight.live
    if not flight.described and live.values().derived_uid:
        # Not before: the descriptor is to hold the geometry that the scan was given.
        yield from bps.declare_stream(live, name=live.name, collect=True)
        flight.described = True
    if flight.described:
        yield from bps.collect(live, name=live.name)
    for devices, name in _streams(flight):
        yield from bps.collect(*devices, name=name)


def _watch(flight: _Flight, group: str) -> MsgGenerator[str]:
    """Collect until the leaders are through, or the target is reached: why."""
    target, row, count = flight.target, 0, -1
    while True:
        done = yield from bps.wait(group, timeout=FLUSH_S, error_on_timeout=False)
        yield from _collect(flight)
        if done:
            return ""
        if target is None or flight.live.link.count == count:
            continue
        count = flight.live.link.count
        met = target.met(flight.live.values())
        row = row + 1 if met else 0
        if row >= target.in_a_row:
            return met


def _stop(flight: _Flight, why: str, group: str) -> MsgGenerator[None]:
    """Stop what moves, first of all; then tell the service that this is the whole."""
    log.info("stopped early: %s", why)
    for leader in flight.leaders:
        yield from bps.stop(leader)
    (task,) = yield from bps.wait_for([lambda: flight.live.enough(why)])
    task.result()
    yield from _wait(flight, group)


def _wait(flight: _Flight, group: str) -> MsgGenerator[None]:
    """Wait for a group, and collect meanwhile."""
    while not (yield from bps.wait(group, timeout=FLUSH_S, error_on_timeout=False)):
        yield from _collect(flight)
