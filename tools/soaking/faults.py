"""Kill processes at random moments of scans, and look at what comes out.

A small scan is sent again and again to a service with a recorder, a dashboard, a
document proxy and a Tiled server beside it. At random moments one or two of them, or
the receiver, get SIGKILL, and are started again. Then every frame must be in the
result, and the object no more than 0.5 dB below all those of scans without a fault. Few
photons limit it, not time: what others take of the processor is not to tell.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptystream.publish.files import read_result
from ptystream.recon.score import score
from ptystream.sim.truth import write_truth
from tools.soaking.replayed import FRAMES, Replayed
from tools.soaking.world import PATIENCE_S, VICTIMS, World

WORSE_DB = 0.5
EXPOSE_S = 2.0
"""Time that a scan's frames take."""
KILL_S = 3.5
"""A kill comes within so long from a scan's first frame: it may find it refining."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--scans", type=int, default=200)
    parser.add_argument("--calm", type=int, default=8, help="scans without a fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--victim", choices=VICTIMS, action="append")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One scan: PSNR of amplitude and phase in dB, frames in the result, what broke."""

    killed: tuple[str, ...]
    psnr_db: tuple[float, float]
    paired: int
    steps: int
    broken: tuple[str, ...]


def run(args: argparse.Namespace) -> int:
    """Run the scans; 1 if a promise was broken in one of them."""
    lots = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="ptystream-faults-") as name:
        folder = Path(name)
        with Replayed() as beam, World(folder, beam) as world:
            write_truth(folder / "truth.h5", beam.made.truth)
            calm = [_scan(world, beam, []) for _ in range(args.calm)]
            least = tuple(min(o.psnr_db[axis] for o in calm) for axis in (0, 1))
            print(f"calm: {_told(calm)}", flush=True)
            outcomes = []
            for number in range(args.scans):
                victims = args.victim or VICTIMS
                chosen = lots.sample(victims, min(len(victims), lots.randint(1, 2)))
                kills = sorted((lots.uniform(0, KILL_S), name) for name in chosen)
                outcome = _scan(world, beam, kills, least)
                outcomes.append(outcome)
                print(number, _line(kills, outcome), flush=True)
            resumed = world.resumed()
    kills = Counter(name for outcome in outcomes for name in outcome.killed)
    broken = sum(bool(outcome.broken) for outcome in outcomes)
    said = {
        "scans": len(outcomes),
        "broken": broken,
        "kills": dict(kills),
        "resumed": resumed,
        "frames_lost": sum(FRAMES - o.paired for o in outcomes),
        "median_db": _medians(outcomes),
        "calm_median_db": _medians(calm),
        "least_db": [min(o.psnr_db[axis] for o in outcomes) for axis in (0, 1)],
        "calm_least_db": least,
    }
    print(json.dumps(said))
    return 1 if broken else 0


def _scan(
    world: World,
    beam: Replayed,
    kills: list[tuple[float, str]],
    least: tuple[float, ...] = (0.0, 0.0),
) -> Outcome:
    """Send a scan, kill at these moments, and judge its result."""
    began_s = time.monotonic()
    scan, left = beam.start(), list(kills)
    sent, ended = 0, None
    while ended is None:
        now_s = time.monotonic() - began_s
        due = min(FRAMES, round(now_s / EXPOSE_S * FRAMES))
        if due > sent:
            beam.expose(scan, sent, due)
            sent = due
            if sent == FRAMES:
                beam.end(scan)
        while left and left[0][0] <= now_s:
            world.kill(left.pop(0)[1])
        world.revive()
        ended = world.ended(scan)
        if now_s > PATIENCE_S:
            return Outcome(
                tuple(n for _, n in kills), (0, 0), 0, 0, ("it never ended",)
            )
        time.sleep(0.01)
    for _, name in left:
        world.kill(name)
    world.settle()
    return _judged(world, ended, tuple(name for _, name in kills), least)


def _judged(
    world: World, ended: dict[str, Any], killed: tuple[str, ...], least: tuple
) -> Outcome:
    """Return what came of a scan."""
    broken = list(world.broken())
    path = Path(ended["result"] or "nothing")
    world.wait_for(path)
    result = read_result(path)
    found = score(result, read_result(world.folder / "truth.h5")).aligned
    steps = int(result.history["step"][-1])
    psnr_db = found.psnr_amplitude_db, found.psnr_phase_db
    paired = ended["frames"]["paired"]
    outcome = Outcome(killed, psnr_db, paired, steps, ())
    if paired != FRAMES:
        broken.append(f"{paired} of {FRAMES} frames")
    if ended["reason"] != "complete":
        broken.append(f"it ended {ended['reason']}")
    if _gap(outcome, least) < -WORSE_DB:
        broken.append(f"{-_gap(outcome, least):.2f} dB worse")
    path.unlink()
    return Outcome(killed, psnr_db, paired, steps, tuple(broken))


def _gap(outcome: Outcome, least: tuple[float, ...]) -> float:
    """Return by how much amplitude and phase are above these, the lesser of both."""
    return min(a - b for a, b in zip(outcome.psnr_db, least, strict=True))


def _medians(outcomes: list[Outcome]) -> list[float]:
    return [statistics.median(o.psnr_db[axis] for o in outcomes) for axis in (0, 1)]


def _told(outcomes: list[Outcome]) -> str:
    return ", ".join("{:.2f} {:.2f}".format(*o.psnr_db) for o in outcomes)


def _line(kills: list[tuple[float, str]], outcome: Outcome) -> str:
    told = ", ".join(f"{name} at {at_s:.2f} s" for at_s, name in kills)
    verdict = "; ".join(outcome.broken) or "ok"
    return f"{told}: {_told([outcome])} dB, {outcome.steps} steps: {verdict}"
