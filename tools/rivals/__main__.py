"""Command line: ``tools/peers``."""

import argparse
import json
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ptystream.errors import PtystreamError
from tools.benchmarks.figures import commit, machine, table
from tools.rivals.arena import Arena, Task
from tools.rivals.environments import LIBERTEM, Environment, PeerError, interpreter
from tools.rivals.ingest import ingest
from tools.rivals.plot import plot
from tools.rivals.problems import PROBLEMS, QUICK, STAR
from tools.rivals.report import markdown
from tools.rivals.result import Result
from tools.rivals.solvers import SOLVERS

SECONDS, QUICK_S = 20.0, 10.0
ROOT = Path(__file__).parents[2]
PEERS = tuple(dict.fromkeys(solver.peer for solver in SOLVERS))


def main() -> int:
    """Race, and write ``peers.json``, ``peers.md`` and ``peers.png``."""
    args = _parser().parse_args()
    if args.ingest:
        return _ingest(args)
    names = args.only or (QUICK if args.quick else tuple(PROBLEMS))
    if args.star:
        names = (*(name for name in names if name != STAR), STAR)
    elif STAR in names:
        print(f"{STAR} needs --star FILE", file=sys.stderr)
        return 2
    arena = Arena(
        args.output,
        pythons=_pythons(args.peers),
        seconds=args.seconds or (QUICK_S if args.quick else SECONDS),
        threads=int(os.environ.get("OMP_NUM_THREADS") or 1),
        quick=args.quick,
        again=args.again,
        star=args.star,
    )
    results: list[Result] = []
    tasks = [task for name in names for task in arena.tasks(name, args.peer)]
    with ThreadPoolExecutor(args.jobs) as pool:
        for number, result in enumerate(pool.map(arena.run, tasks), 1):
            results.append(result)
            print(
                f"{number}/{len(tasks)} {_line(tasks[number - 1], result)}", flush=True
            )
            _write(args.output, results)
    print("\n" + (args.output / "peers.md").read_text(), end="")
    return 0


def _ingest(args: argparse.Namespace) -> int:
    try:
        figures = list(ingest(interpreter(LIBERTEM, args.peers), quick=args.quick))
    except PtystreamError as error:
        print(error, file=sys.stderr)
        return 1
    print(table(figures))
    args.output.mkdir(parents=True, exist_ok=True)
    told = {"machine": machine(), "commit": commit()}
    told["figures"] = [figure.as_dict() for figure in figures]
    (args.output / "ingest.json").write_text(json.dumps(told, indent=1))
    return 0


def _pythons(cache: Path) -> Callable[[Environment], Path]:
    """Return what installs each environment once, and remembers what failed."""
    found: dict[str, Path | PeerError] = {}
    lock = threading.Lock()

    def python(environment: Environment) -> Path:
        with lock:
            if environment.name not in found:
                try:
                    found[environment.name] = interpreter(environment, cache)
                except PeerError as error:
                    found[environment.name] = error
            got = found[environment.name]
        if isinstance(got, PeerError):
            raise got
        return got

    return python


def _write(folder: Path, results: list[Result]) -> None:
    """Write what there is so far: a run of an hour may be cut."""
    about = {**machine(), "commit": commit()}
    told = {"machine": about, "results": [result.as_dict() for result in results]}
    (folder / "peers.json").write_text(json.dumps(told, indent=1))
    (folder / "peers.md").write_text(markdown(results, about))
    plot(results, folder / "peers.png")


def _line(task: Task, result: Result) -> str:
    what = f"{task.problem}, {task.solver.name}"
    if result.error:
        return f"{what}: {result.error}"
    if result.star:
        return f"{what}: {result.star}"
    last = result.points[-1].aligned if result.points else "nothing to score"
    return f"{what}: {last} after {result.cpu_s:.0f} s of processor"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tools/peers", description=__doc__)
    names = (*PROBLEMS, STAR)
    parser.add_argument("--only", nargs="+", choices=names, metavar="PROBLEM")
    parser.add_argument("--peer", nargs="+", choices=PEERS, metavar="NAME")
    parser.add_argument(
        "--seconds",
        type=float,
        help=f"of processor for each run; three times so many on the largest scan, "
        f"four times for quantEM's priors (default: {SECONDS:g})",
    )
    parser.add_argument("--quick", action="store_true", help="small scans, in minutes")
    parser.add_argument("--again", action="store_true", help="run what was run before")
    parser.add_argument("--star", type=Path, metavar="FILE", help="a measured CXI file")
    parser.add_argument("--ingest", action="store_true", help="race receivers instead")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once (default: 1)")
    parser.add_argument(
        "-o", "--output", type=Path, default=ROOT / "results" / "peers", metavar="DIR"
    )
    cache = os.environ.get("PTYSTREAM_PEERS") or ROOT / ".venv" / "peers"
    parser.add_argument("--peers", type=Path, default=Path(cache), metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
