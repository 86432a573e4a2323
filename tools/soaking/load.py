"""Raise the frame rate until ``ptystream serve`` loses frames, and see how it does.

Scans of a few seconds are sent, each twice as fast as the last, until frames are lost:
the limit is the last rate without. Then one scan begins at half the limit, goes on at
twice the limit, and returns: all lost frames must be counted, memory must stay, and
within seconds the service must be as it was.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptystream.errors import StoppedError
from ptystream.publish.client import ControlClient
from tools.benchmarks.live_memory import memory_of
from tools.soaking.served import Parts, Served

LOOK_S = 0.25
PATIENCE_S = 90.0
CALM_FILL, CALM_LAG_S = 0.5, 1.0
"""Queues and the newest frame's lag, below which an overload is over."""
GROWTH_MIB = 32.0
"""By which private memory may grow from the second to the last quarter of an overload:
the store fills, and a full one takes no more."""
RECOVERY_S = 5.0
AFTER_JOINING = ("backlog", "far", "dark")
"""Reasons of those that had found their position."""
SHORT = ("refine.max_s=0.5", "detector.ring_mib=24")
"""The ring as deploy/README.md has it: a second or two of these frames. The default's
256 MiB hold 32,000, and what is seen after an overload is as old as they are."""
THINS = "faster than the engine"
LOST_BEFORE = tuple(
    f'messages_lost_total{{reason="{reason}",stream="det"}}'
    for reason in ("on_wire", "ring_full")
)


@dataclass(frozen=True, slots=True)
class Look:
    """The service at one moment (monotonic).

    ``lag_s`` is the newest frame's, ``fill`` the fullest queue's, ``lost`` counts
    messages that came not even into the ring.
    """

    at_s: float
    own_mib: float
    lag_s: float
    fill: float
    lost: float
    thins: bool


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan as sent, as it ended, and what was seen meanwhile."""

    sent: dict[str, Any]
    ended: dict[str, Any]
    looks: Sequence[Look]

    @property
    def lost(self) -> dict[str, int]:
        """Frames lost, by where; only reasons that there were."""
        return {r: n for r, n in self.ended["frames"]["lost"].items() if n}

    @property
    def uncounted(self) -> int:
        """Frames sent that were neither joined with a position nor counted as lost."""
        before = sum(n for r, n in self.lost.items() if r not in AFTER_JOINING)
        return self.sent["frames"] - self.ended["frames"]["paired"] - before

    @property
    def used(self) -> int:
        """Frames that the engine was given and could use."""
        after = sum(n for r, n in self.lost.items() if r in AFTER_JOINING)
        return self.ended["frames"]["paired"] - after

    @property
    def recovery_s(self) -> float:
        """From the end of the overload, its second of three parts, to calm for good."""
        over_s, end_s = self.sent["parts_s"][2:4]
        after = [look for look in self.looks if over_s <= look.at_s <= end_s]
        rough = [n for n, look in enumerate(after) if not _calm(after, n)]
        if not rough:
            return 0.0
        calm = after[rough[-1] + 1 :]
        return calm[0].at_s - over_s if calm else math.inf

    @property
    def growth_mib(self) -> float:
        """Private memory late in the overload, less that early in it: by quarters."""
        begin_s, end_s = self.sent["parts_s"][1:3]
        quarter_s = (end_s - begin_s) / 4
        early, late = (
            statistics.median(
                look.own_mib for look in self.looks if 0 <= look.at_s - t < quarter_s
            )
            for t in (begin_s + quarter_s, end_s - quarter_s)
        )
        return late - early

    @property
    def peak_mib(self) -> float:
        """Private memory at its largest."""
        return max(look.own_mib for look in self.looks)


def _calm(looks: Sequence[Look], number: int) -> bool:
    """Tell whether nothing waits long, and nothing was lost since the last look."""
    look = looks[number]
    losing = look.thins or look.lost > looks[max(0, number - 1)].lost
    return not losing and look.fill < CALM_FILL and look.lag_s < CALM_LAG_S


def scanned(served: Served, parts: Parts) -> Scan:
    """Send one scan, look at the service meanwhile, and wait for the scan's end.

    Raises:
        StoppedError: it takes far longer than it should.
    """
    served.send(parts)
    deadline_s = time.monotonic() + sum(s for _, s in parts) + PATIENCE_S
    looks, sent, ended = [], None, None
    with ControlClient(served.addresses["control"], timeout_s=30) as client:
        while sent is None or ended is None:
            if time.monotonic() > deadline_s:
                raise StoppedError(f"a scan of {parts} did not end")
            looks.append(_look(served, client))
            sent, ended = sent or served.sent(), ended or served.ended()
            time.sleep(LOOK_S)
    return Scan(sent, ended, looks)


def _look(served: Served, client: ControlClient) -> Look:
    metrics, status = served.metrics(), client.ask("status")["result"]
    fills = (v for name, v in metrics.items() if name.startswith("queue_fill_ratio"))
    return Look(
        time.monotonic(),
        memory_of(served.service.pid).own_mib,
        status["lag_s"] or 0.0,
        max(fills),
        sum(v for name, v in metrics.items() if name in LOST_BEFORE),
        THINS in status["detail"],
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--first", type=float, default=250.0, metavar="HZ")
    parser.add_argument("--most", type=float, default=16_000.0, metavar="HZ")
    parser.add_argument("--part-s", type=float, default=10.0, help="length of a part")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")


def run(args: argparse.Namespace) -> int:
    """Find the limit, and go beyond it; 1 if a promise was broken."""
    flags = [f"--set={setting}" for setting in (*SHORT, *args.set)]
    with (
        tempfile.TemporaryDirectory(prefix="ptystream-load-") as folder,
        Served(Path(folder), flags) as served,
    ):
        limit_hz = _limit_hz(served, args)
        half, twice = limit_hz / 2, limit_hz * 2
        parts = ((half, args.part_s), (twice, args.part_s), (half, 2 * args.part_s))
        over = scanned(served, parts)
        code = served.end()
    said = verdict(over, code)
    print(json.dumps({"limit_hz": limit_hz, **said}, indent=1), flush=True)
    return 0 if said["holds"] else 1


def verdict(over: Scan, code: int) -> dict[str, Any]:
    """Return what an overload did, and whether all is as promised."""
    sound = code == 0 and over.uncounted == 0 and over.growth_mib <= GROWTH_MIB
    return {
        "holds": sound and over.recovery_s <= RECOVERY_S,
        "sent": over.sent["frames"],
        "lost": over.lost,
        "uncounted": over.uncounted,
        "recovery_s": round(over.recovery_s, 2),
        "growth_mib": round(over.growth_mib, 1),
        "peak_mib": round(over.peak_mib, 1),
        "largest_lag_s": round(max(look.lag_s for look in over.looks), 2),
        "exit_code": code,
    }


def _limit_hz(served: Served, args: argparse.Namespace) -> float:
    """Return the last rate, doubled from scan to scan, at which no frame is lost."""
    rate_hz = args.first
    while rate_hz <= args.most:
        scan = scanned(served, [(rate_hz, args.part_s)])
        late_s = scan.sent["late_s"]
        print(f"{rate_hz:g} Hz: lost {scan.lost}, sent {late_s:.2f} s late", flush=True)
        if scan.lost:
            return rate_hz / 2
        rate_hz *= 2
    raise StoppedError(f"nothing is lost up to {args.most:g} Hz")
