"""``tools/bench live``: fixed scans through real sockets into a real service.

``ptystream simulate`` streams each scan at its pace into ``ptystream serve``, once a
field; snapshots and result are scored against the truth, which only the bench knows;
the same frames go from a tape through ``ptystream reconstruct``.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ptystream import __version__
from ptystream.errors import PtystreamError
from tools.benchmarks.figures import Figure, commit, machine, table
from tools.benchmarks.live_memory import Grown
from tools.benchmarks.live_plot import plot
from tools.benchmarks.live_report import DEFAULT, as_dict, claims, lines
from tools.benchmarks.live_run import Bench, Run
from tools.benchmarks.live_scans import QUICK, SCANS, Scan

HURRY = 6.0
"""``--quick`` divides all times by this."""


def main(words: Sequence[str]) -> int:
    """Run the scans, print tables, write JSON and plot; 1 if a scan failed."""
    args = _arguments(words)
    args.output.mkdir(parents=True, exist_ok=True)
    hurry = HURRY if args.quick else 1.0
    bench = Bench(args.output, hurry, lambda text: print(text, file=sys.stderr))
    done = Done(shlex.join(["tools/bench", "live", *words]), hurry)
    for name in args.only:
        try:
            _scan(bench, SCANS[name], args.field, done)
        except PtystreamError as error:
            done.failed[name] = str(error)
            print(f"{name}: {error}", file=sys.stderr)
        _write(args.output, done)  # a run of half an hour may be cut
    print(lines(done.runs))
    print()
    print(table(done.claims()))
    where = str(args.output / "live.json")
    print(json.dumps({"json": where, "seconds": done.seconds, "failed": done.failed}))
    return 1 if done.failed else 0


@dataclass
class Done:
    """What there is so far: runs, memory by field, scans that failed."""

    command: str
    hurry: float
    began_s: float = field(default_factory=time.monotonic)
    runs: list[Run] = field(default_factory=list)
    memory: dict[str, Grown] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> int:
        """Return how long it has taken."""
        return round(time.monotonic() - self.began_s)

    def claims(self) -> list[Figure]:
        """Return the figures that the runs come to."""
        return list(claims(self.runs, self.memory))

    def as_dict(self) -> dict[str, Any]:
        """Return all for JSON."""
        return {
            "suite": "live",
            "command": self.command,
            "machine": machine(),
            "ptystream": __version__,
            "commit": commit(),
            "hurry": self.hurry,
            "seconds": self.seconds,
            "runs": [as_dict(run, hurry=self.hurry) for run in self.runs],
            "figures": [figure.as_dict() for figure in self.claims()],
            "failed": self.failed,
        }


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/bench live", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{' and '.join(QUICK)}, in a sixth of the time",
    )
    parser.add_argument("--only", metavar="SCAN,…", help=f"some of {','.join(SCANS)}")
    parser.add_argument(
        "--field",
        default=DEFAULT,
        metavar="FIELD,…",
        help="what to run beside plain pixels: auto, siren, multires, …",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("results/bench-live"),
        metavar="DIR",
        help="live.json, live.png and the results go there",
    )
    args = parser.parse_args(words)
    usual = QUICK if args.quick else tuple(SCANS)
    args.only = tuple(args.only.split(",")) if args.only else usual
    if not set(args.only) <= set(SCANS):
        known = ",".join(SCANS)
        parser.error(f"--only {','.join(args.only)}: expected some of {known}")
    args.field = tuple(args.field.split(","))
    args.output = args.output.resolve()  # the processes run elsewhere
    return args


def _scan(bench: Bench, scan: Scan, fields: Sequence[str], done: Done) -> None:
    """Run a scan, and its short one where memory is the question."""
    for run in bench.scan(scan, fields):
        done.runs.append(run)
        if scan.short is not None and run.field == fields[0]:
            short = bench.memory(scan.short, run.field)
            further_mib = scan.frames_mib - scan.short.frames_mib
            done.memory[run.field] = Grown(run.live.peak, short, further_mib)


def _write(folder: Path, done: Done) -> None:
    text = json.dumps(done.as_dict(), indent=1, allow_nan=False)
    (folder / "live.json").write_text(text)
    if done.runs:
        plot(done.runs, folder / "live.png")
