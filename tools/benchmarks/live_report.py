"""What ``tools/bench live`` says: a line a run, the claims, and JSON of it all."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tools.benchmarks.figures import Figure
from tools.benchmarks.live_memory import Grown
from tools.benchmarks.live_run import AFTER, BASELINE, END, LAST, Run, minus
from tools.benchmarks.live_score import Pair

DEFAULT = "auto"
PARTS = ("amplitude", "phase")
WORSE_DB = 0.5
"""The default may be worse than plain pixels by so much, at no moment by more."""
KEPT = 0.5
"""Of the frames by which a scan is longer, that memory may grow by at most: a service
that kept them would come to 1, and peaks of the same scan differ by some MiB."""

HEAD = (
    "scan",
    "field",
    "empty",
    LAST,
    AFTER,
    END,
    "offline",
    "behind",
    f"over {BASELINE}",
    "90 % s",
    "step",
    "lost",
    "MiB",
)


def lines(runs: Sequence[Run]) -> str:
    """Return a table, PSNR as amplitude / phase in dB, a step in floors.

    What is over plain pixels, and behind offline, is so 2 s after the last frame.
    """
    rows = [HEAD, *(_row(run, _pixels(run, runs)) for run in runs)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows
    )


def _pixels(run: Run, runs: Sequence[Run]) -> Run | None:
    """Return the run to compare with: the same scan, with plain pixels."""
    for other in runs:
        if other.scan.name == run.scan.name and other.field == BASELINE != run.field:
            return other
    return None


def _row(run: Run, pixels: Run | None) -> tuple[str, ...]:
    over = minus(run.psnr_db(AFTER), pixels.psnr_db(AFTER)) if pixels else None
    reached_s = run.curve.reached_s(run.end_db, run.flat_db)
    return (
        run.scan.name,
        run.field,
        _db(run.flat_db),
        *(_db(run.psnr_db(moment)) for moment in (LAST, AFTER, END)),
        _db(run.offline.psnr_db if run.offline else None),
        _db(run.behind_db),
        _db(over),
        "-" if math.isnan(reached_s) else f"{reached_s:.0f}",
        f"{run.steps_over_floor:.1f}",
        str(run.live.lost),
        f"{run.live.peak.all_mib:.0f}",
    )


def _db(pair: Pair | None) -> str:
    if pair is None:
        return ""
    return " / ".join("-" if math.isnan(v) else f"{v:.1f}" for v in pair)


def claims(runs: Sequence[Run], memory: Mapping[str, Grown]) -> Iterator[Figure]:
    """Yield what was promised, and the same figures where nothing was.

    ``memory`` has the peaks of a long scan and of its short one, by field.
    """
    for run in runs:
        yield from _behind(run)
        if pixels := _pixels(run, runs):
            yield from _against(run, pixels)
        lost, who = float(run.live.lost), f"{run.scan.name}, {run.field}"
        yield Figure(f"{who}: frames lost", lost, "frames", 0)
    for field, grown in memory.items():
        label = f"{field}: a scan ten times longer"
        ratio = grown.long.all_mib / grown.short.all_mib
        yield Figure(f"{label}: peak memory, over", ratio, "x")
        name = f"{label}: growth over the size of its further frames"
        yield Figure(name, grown.share, "x", KEPT)


def _behind(run: Run) -> Iterator[Figure]:
    """Yield by how much live, 2 s after the last frame, falls short of offline."""
    target = run.scan.close_db if run.field == DEFAULT else None
    for part, db in zip(PARTS, run.behind_db or (), strict=False):
        name = f"{run.scan.name}, {run.field}: offline over {AFTER}, {part}"
        yield Figure(name, db, "dB", target)


def _against(run: Run, pixels: Run) -> Iterator[Figure]:
    """Yield by how much plain pixels are better at worst, and worse 2 s after."""
    default = run.field == DEFAULT
    moments = (LAST, AFTER, END)
    gains_db = np.array([minus(run.psnr_db(m), pixels.psnr_db(m)) for m in moments])
    after_db = gains_db[moments.index(AFTER)]
    for i, part in enumerate(PARTS):
        label = f"{run.scan.name}, {run.field}"
        worst_db = -float(gains_db[:, i].min())  # NaN if one moment is unknown
        name = f"{label}: {BASELINE} better, at worst, {part}"
        yield Figure(name, worst_db, "dB", WORSE_DB if default else None)
        target = run.scan.better_db if default else None
        name = f"{label}: better than {BASELINE} {AFTER}, {part}"
        yield Figure(name, float(after_db[i]), "dB", target, "at least")


def as_dict(run: Run, *, hurry: float) -> dict[str, Any]:
    """Return a run for JSON; what is not known is None."""
    live, offline = run.live, run.offline
    report = {
        "scan": run.scan.name,
        "about": run.scan.about,
        "field": run.field,
        "simulate": run.scan.flags(hurry=hurry),
        "told": list(run.scan.told),
        "wrong_first_probe": run.scan.spoil.__name__ if run.scan.spoil else None,
        "last_frame_s": live.last_frame_s,
        "curve": [dataclasses.asdict(point) for point in run.curve.points],
        "psnr_db": {m: run.psnr_db(m) for m in (LAST, AFTER, END)},
        "flat_db": run.flat_db,
        "probe_error": run.probe_error,
        "offline": dataclasses.asdict(offline) if offline else None,
        "nine_tenths_s": run.curve.reached_s(run.end_db, run.flat_db),
        "steps_live": live.steps.count,
        "step_ms": live.steps.mean_s * 1e3,
        "floor_ms": run.floor_s * 1e3,
        "frames_sent": live.sent["detector"]["items"],
        "frames_lost": live.lost,
        "frames": live.ended["frames"],
        "late_s": live.sent["detector"]["late_s"],
        "peak_mib": live.peak.all_mib,
        "peak_private_mib": live.peak.own_mib,
        "refined": live.ended["refined"],
        "refined_s": live.ended["seconds_after_last_frame"],
    }
    return _finite(report)


def _finite(value: Any) -> Any:
    """Return the same with four decimals, and None for what JSON can't hold."""
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
