"""Stream scans into ``ptystream serve`` for long, and see whether anything grows.

Every 5 s a line of JSON tells what each process holds. Memory, open files, threads and
shared memory are compared between early, once they have settled, and the end.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ptystream.errors import StoppedError
from tools.soaking.looks import held, named_segments, processes
from tools.soaking.served import Served

EVERY_S = 5.0
KEPT = 3
"""Files of results of each kind that are left in the folder."""
SETTLED = 0.25
"""Share of the time after which memory counts as settled."""
WINDOW = 0.15
"""Share of the time whose median is compared, early and late."""
GROWTH_MIB = 4.0
"""Freed memory stays with the process (``recon/heap.py``), each thread's at its peak:
on a busy machine that took ten minutes to settle, and then stayed for an hour."""
Look = dict[str, Any]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=300.0, metavar="HZ")
    parser.add_argument("--scan-s", type=float, default=30.0, help="length of a scan")
    parser.add_argument("--gap-s", type=float, default=6.0, help="between two scans")
    parser.add_argument("--output", type=Path, default=Path("soak.jsonl"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")


def run(args: argparse.Namespace) -> int:
    """Soak; 1 if something grew, was lost or was left behind."""
    flags = [f"--set={setting}" for setting in args.set]
    with tempfile.TemporaryDirectory(prefix="ptystream-soak-") as name:
        folder = Path(name)
        with Served(folder, flags) as served, args.output.open("w") as out:
            looks = []
            for look in _looks(served, args):
                out.write(json.dumps(look) + "\n")
                out.flush()
                looks.append(look)
            pids = processes(served.service.pid).values()
            code = served.end()
        left = [path.name for path in folder.glob(".*.part")]
    named = {Path(name) for look in looks for name in look["named_segments"]}
    left += sorted(str(path) for path in named if path.exists())
    left += [f"process {pid}" for pid in pids if held(pid).threads]
    said = verdict(looks, code, left)
    print(json.dumps(said, indent=1), flush=True)
    return 0 if said["holds"] else 1


def _looks(served: Served, args: argparse.Namespace) -> Iterator[Look]:
    """Keep scans coming, and yield a look every 5 s; results are thinned out."""
    began_s = time.monotonic()
    totals = {"scans": 0, "sent": 0, "refused": 0, "ended": 0, "paired": 0}
    next_s = due_s = began_s
    while (now_s := time.monotonic()) - began_s < 60 * args.minutes:
        if (sent := served.sent()) is not None:
            totals["scans"] += 1
            totals["sent"] += sent["frames"]
            totals["refused"] += sent["refused"]
            next_s = now_s + args.gap_s
        if now_s >= next_s:
            next_s = math.inf
            served.send([(args.rate, args.scan_s)])
        if (ended := served.ended()) is not None:
            totals["ended"] += 1
            totals["paired"] += ended["frames"]["paired"]
            thin(served.results)
        if now_s >= due_s:
            due_s += EVERY_S
            yield {"at_s": round(now_s - began_s, 1), **totals, **_look(served)}
        time.sleep(0.05)


def _look(served: Served) -> Look:
    """Return what everybody holds now, and what the service has counted."""
    found = processes(served.service.pid)
    metrics = served.metrics()
    lost = {n: v for n, v in metrics.items() if "_lost" in n and "total" in n and v}
    return {
        "processes": {name: asdict(held(pid)) for name, pid in found.items()},
        "named_segments": sorted(map(str, named_segments(found.values()))),
        "steps": metrics["step_seconds_count"],
        "received": metrics["frames_received_total"],
        "lost": lost,
    }


def thin(folder: Path) -> None:
    """Leave the newest results, as who keeps a disk from filling would."""
    for kind in ("h5", "png", "html"):
        found = sorted(folder.glob(f"*.{kind}"), key=lambda p: p.stat().st_mtime)
        for path in found[:-KEPT]:
            path.unlink(missing_ok=True)


def verdict(looks: Sequence[Look], code: int, left: Sequence[str]) -> dict[str, Any]:
    """Return what grew between early and late, and whether all is as it should be.

    Raises:
        StoppedError: too few looks to tell.
    """
    growth = {
        name: {what: grown(looks, name, what) for what in held_}
        for name, held_ in looks[-1]["processes"].items()
        if all(name in look["processes"] for look in looks)
    }
    steady = all(_steady(grew) for grew in growth.values())
    last = looks[-1]
    whole = not last["refused"] and not last["lost"]
    return {
        "holds": steady and whole and code == 0 and not left,
        "minutes": last["at_s"] / 60,
        "growth": growth,
        "exit_code": code,
        "left_behind": list(left),
        **{n: last[n] for n in ("scans", "sent", "refused", "ended", "steps", "lost")},
    }


def grown(looks: Sequence[Look], process: str, what: str) -> float:
    """Return by how much something is more late than early: medians of two windows."""
    values = [look["processes"][process][what] for look in looks]
    first, width = round(SETTLED * len(values)), max(1, round(WINDOW * len(values)))
    if first + width > len(values) - width:
        raise StoppedError(f"{len(looks)} looks: too few to tell early from late")
    early, late = values[first : first + width], values[-width:]
    return round(statistics.median(late) - statistics.median(early), 3)


def _steady(grew: Mapping[str, float]) -> bool:
    return all(
        grew[what] <= (GROWTH_MIB if what.endswith("mib") else 0) for what in grew
    )
