"""``PtychoLive``: the live reconstruction as an ophyd-async device."""

import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from bluesky.protocols import EventPageCollectable, Stoppable
from event_model import DataKey, PartialEventPage
from ophyd_async.core import (
    FlyableLogic,
    SignalR,
    StandardFlyable,
    StandardReadable,
)
from ophyd_async.core import StandardReadableFormat as Format

from ptystream.bluesky.documents import trimmed
from ptystream.bluesky.link import HEARTBEAT_S, SILENT_S, ServiceLink, Status
from ptystream.bluesky.recorded import RECORDED, Recorded, geometry_of
from ptystream.bluesky.signals import data_key, status_signal
from ptystream.bluesky.values import ENDED, Limits, Values, is_mine, values_of
from ptystream.errors import ConfigError, PtystreamError, StoppedError
from ptystream.wire.curve import ClientKeys

log = logging.getLogger(__name__)

ROWS = 4096
"""Rows that wait for a ``collect``; beyond it the oldest are dropped, counted."""
STOP_S = 2.0
"""A service that does not answer a stop in so long is left alone."""

_COLUMNS: Mapping[str, tuple[type, str | None]] = {
    "held_out_error": (float, None),
    "resolution_m": (float, "m"),
    "coverage": (float, None),
    "converged": (bool, None),
    "frames": (int, None),
    "frames_lost": (int, None),
    "lag_s": (float, "s"),
    "step": (int, None),
    "derived_uid": (str, None),
    "health": (str, None),
    "phase": (str, None),
    "reason": (str, None),
}
"""A row's columns; all but the last are signals too."""


@dataclass(frozen=True)
class PtychoInfo:
    """What the service is told of the run that begins, and what ``complete`` awaits.

    ``uid`` is the Bluesky run's. ``scan`` is the streams' own uid for it, where that is
    known. ``until`` is "frames" (all have come) or "refined" (the result is final);
    ``patience_s`` how long nothing may change before ``complete`` fails.
    """

    uid: str
    start_document: Mapping[str, Any] = field(default_factory=dict)
    frames: int | None = None
    scan: str | None = None
    until: Literal["frames", "refined"] = "frames"
    patience_s: float = 60.0

    def note(self) -> dict[str, Any]:
        """Return the args of a request that announces the run."""
        note: dict[str, Any] = {
            "uid": self.uid,
            "start_document": trimmed(self.start_document)[0],
        }
        optional = {"frames": self.frames, "scan": self.scan}
        return note | {k: v for k, v in optional.items() if v is not None}


@dataclass(frozen=True)
class _Flight:
    info: PtychoInfo
    instance: str
    after: int


@dataclass
class _PtychoFly(FlyableLogic[PtychoInfo, _Flight]):
    live: "PtychoLive"

    async def on_prepare(self, value: PtychoInfo) -> _Flight:
        return await self.live.arm(value)

    async def on_kickoff(self, ctx: _Flight) -> _Flight:
        self.live.check(ctx)
        return ctx

    async def on_complete(self, ctx: _Flight) -> None:
        await self.live.followed(ctx)

    async def stop(self) -> None:
        await self.live.let_go()


class PtychoLive(StandardReadable, StandardFlyable, EventPageCollectable, Stoppable):
    """A running service: its quality as signals, a run of its own to fly.

    While a run is armed or open the signals speak of that run alone; else of whichever
    the service has. ``collect`` gives a row for each status that brought something new.
    What is recorded once a run (``RECORDED``): the service's version and instance, how
    it reconstructs, and the open scan's geometry with the origin of each value.

    Args:
        control: the service's control address, ``tcp://host:5610``.
        status: its status address, ``tcp://host:5611``.
        limits: what counts as healthy data.
        heartbeat_s: a service that can't be reached for so long is lost.
        silent_s: so is one that is there but says nothing for so long.
        name: the device's.
        keys: of a service with ``publish.curve``.
    """

    halves: SignalR[bool]

    def __init__(
        self,
        control: str,
        status: str,
        limits: Limits | None = None,
        heartbeat_s: float = HEARTBEAT_S,
        silent_s: float = SILENT_S,
        name: str = "",
        keys: ClientKeys | None = None,
    ) -> None:
        self.link = ServiceLink(control, status, heartbeat_s, silent_s, keys)
        self.limits = limits or Limits()
        self.rows_dropped = 0
        self._uid = self._reason = ""
        self._rows: deque[tuple[float, Values]] = deque()
        self._newest = Values()
        self.link.listen(self._note)
        with self.add_children_as_readables(Format.HINTED_UNCACHED_SIGNAL):
            self.held_out_error = self._signal("held_out_error")
            self.resolution_m = self._signal("resolution_m")
            self.coverage = self._signal("coverage")
            self.converged = self._signal("converged")
            self.frames = self._signal("frames")
            self.frames_lost = self._signal("frames_lost")
            self.lag_s = self._signal("lag_s")
        with self.add_children_as_readables(Format.UNCACHED_SIGNAL):
            self.step = self._signal("step")
            self.derived_uid = self._signal("derived_uid")
            self.health = self._signal("health")
        self.phase = self._signal("phase")
        self.healthy = status_signal(bool, self.link, "healthy", self._is_healthy)
        with self.add_children_as_readables(Format.CONFIG_SIGNAL):
            for part, recorded in RECORDED.items():
                setattr(self, part, self._recorded(part, recorded))
        super().__init__(name=name)

    @cached_property
    def flyable_logic(self) -> _PtychoFly:
        """What prepare, kickoff, complete, stage and unstage do."""
        return _PtychoFly(self)

    async def arm(self, info: PtychoInfo) -> _Flight:
        """Announce a run, whose scan is to be the next that opens."""
        self._rows.clear()
        self._uid, self._reason, self._newest = info.uid, "", Values()
        await self.link.ask("arm", **info.note())
        seen = self.link.count
        await self.link.newer(seen)
        return _Flight(info, str((self.link.latest or {}).get("instance")), seen)

    def check(self, flight: _Flight) -> None:
        """Raise StoppedError unless the service still knows the run."""
        status = self.link.latest or {}
        where, uid = self.link.control, flight.info.uid
        if status.get("instance") != flight.instance:
            raise StoppedError(f"the service at {where} was restarted, run {uid} lost")
        if not is_mine(status, uid) and status.get("armed") != uid:
            raise StoppedError(f"the service at {where} knows nothing of run {uid}")
        if self._newest.phase == "error":
            raise StoppedError(f"the service gave run {uid} up: {self._newest.reason}")

    async def followed(self, flight: _Flight) -> None:
        """Return once the run is where ``until`` says.

        Raises:
            StoppedError: the service is silent, was restarted, gave the scan up, or
                nothing changed for ``patience_s``.
        """
        wanted = ("done",) if flight.info.until == "refined" else ENDED
        count, changed_s, before = flight.after, time.monotonic(), Values()
        while True:
            self.check(flight)
            values, now_s = self._newest, time.monotonic()
            if values.phase in wanted:
                return
            if values != before or values.phase == "held":
                before, changed_s = values, now_s
            if now_s - changed_s > flight.info.patience_s:
                raise StoppedError(
                    f"run {flight.info.uid}: nothing new for "
                    f"{flight.info.patience_s:g} s, {values.frames} frames, "
                    f"{values.phase}"
                )
            count = await self.link.newer(count)

    async def enough(self, why: str, *, refine: bool = True) -> None:
        """Have the run end as complete, though frames may be missing; tell why.

        A run that has ended by itself meanwhile is left as it is.

        Raises:
            StoppedError: the service does not answer.
        """
        self._reason = why
        try:
            await self.link.ask("enough", uid=self._uid, why=why, refine=refine)
        except ConfigError as error:
            log.warning("run %s ended before %s: %s", self._uid, why, error)
        self._append(replace(self._newest, reason=why))

    async def let_go(self) -> None:
        """Stop the run if it is armed or frames are awaited; a dead service is logged.

        A run that is refined goes on: its result is worth having.
        """
        uid, self._uid = self._uid, ""
        if not uid or self._newest.phase in (*ENDED, "error"):
            return
        try:
            await self.link.ask("stop", STOP_S, uid=uid, why="stopped by the plan")
        except PtystreamError as error:
            log.warning("run %s is not stopped: %s", uid, error)

    async def stop(self, success: bool = True) -> None:
        """Stop the run, whatever state the service is in."""
        await self.let_go()

    async def close(self) -> None:
        """Disconnect from the service."""
        await self.link.close()

    async def describe_collect(self) -> dict[str, DataKey]:
        """Return the columns of a row."""
        return {
            f"{self.name}-{name}": data_key(
                datatype, f"ptystream+{self.link.status}#{name}", units
            )
            for name, (datatype, units) in _COLUMNS.items()
        }

    async def collect_pages(self) -> AsyncIterator[PartialEventPage]:
        """Yield the rows since the last call; no page if there are none."""
        rows = [self._rows.popleft() for _ in range(len(self._rows))]
        if not rows:
            return
        times = [time_s for time_s, _ in rows]
        names = {f"{self.name}-{name}": name for name in _COLUMNS}
        yield PartialEventPage(
            time=times,
            data={k: [getattr(v, name) for _, v in rows] for k, name in names.items()},
            timestamps=dict.fromkeys(names, times),
        )

    def values(self) -> Values:
        """Return what is known of the run now."""
        return self._newest

    def complaint(self) -> str:
        """Return why the data are not healthy, in words; empty if they are."""
        if self.link.lost:
            return f"the service at {self.link.control} is gone, or hangs"
        return self._newest.complaint

    def _signal(self, name: str) -> SignalR[Any]:
        datatype, units = _COLUMNS[name]
        return status_signal(
            datatype,
            self.link,
            name,
            lambda status: getattr(values_of(status, self._uid, self.limits), name),
            units,
        )

    def _recorded(self, name: str, recorded: Recorded) -> SignalR[Any]:
        pick = recorded.pick
        return status_signal(
            recorded.kind,
            self.link,
            name,
            lambda status: pick(status, geometry_of(status, self._uid)),
            recorded.units,
        )

    def _is_healthy(self, status: Status) -> bool:
        complaint = values_of(status, self._uid, self.limits).complaint
        return not complaint and not self.link.lost

    def _note(self, status: Status) -> None:
        """Keep a status that brings something new as a row."""
        values = values_of(status, self._uid, self.limits)
        before, self._newest = self._newest, values
        same = replace(before, lag_s=0.0) == replace(values, lag_s=0.0)
        if self._uid and values.derived_uid and not same:
            self._append(replace(values, reason=self._reason or values.reason))

    def _append(self, values: Values) -> None:
        if len(self._rows) >= ROWS:
            self._rows.popleft()
            self.rows_dropped += 1
        self._rows.append((float((self.link.latest or {})["time"]), values))
