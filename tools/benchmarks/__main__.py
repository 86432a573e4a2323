"""``tools/bench SUITE``: figures in a table and, last, as one JSON object.

``tools/bench live`` has flags of its own: see its ``--help``.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator

import torch

from ptystream.recon.heap import keep_freed_memory
from tools.benchmarks import costs, live, wires
from tools.benchmarks.checkpoints import checkpoints
from tools.benchmarks.deluge import deluge
from tools.benchmarks.demo_scan import demo_scan
from tools.benchmarks.engine_step import engine_step
from tools.benchmarks.figures import Figure, commit, machine, table
from tools.benchmarks.longer import longer
from tools.benchmarks.papers_race import papers_race
from tools.benchmarks.receiver import cropped, receiver
from tools.benchmarks.snapshots import snapshots

Part = Callable[[bool], Iterator[Figure]]

SUITES: dict[str, dict[str, Part]] = {
    "core": {"engine": engine_step, "receiver": receiver, "demo": demo_scan},
    "wires": {
        "receiver": receiver,
        "cropped": cropped,
        "tape": wires.tape,
        "recording": costs.recording,
        "encryption": costs.encryption,
        "replay": wires.replay,
        "long": wires.long,
    },
    "papers-race": {"race": papers_race},
    "load": {
        "snapshots": snapshots,
        "checkpoints": checkpoints,
        "longer": longer,
        "deluge": deluge,
    },
}
"""Parts of each suite by name; each is told whether to be quick."""
ON_REQUEST = {"long"}
"""Parts that take ten minutes: run when named, or with ``--long``."""


def main() -> int:
    """Run a suite, or some of its parts."""
    torch.set_num_threads(1)
    keep_freed_memory()
    if sys.argv[1:2] == ["live"]:
        return live.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="tools/bench", description=__doc__)
    parser.add_argument("suite", choices=sorted(SUITES))
    parser.add_argument("--json", action="store_true", help="print the JSON only")
    parser.add_argument("--quick", action="store_true", help="smaller, in seconds")
    parser.add_argument("--only", metavar="PART,…", help="some parts of the suite")
    parser.add_argument("--long", action="store_true", help="the long run too")
    args = parser.parse_args()
    parts = SUITES[args.suite]
    usual = [name for name in parts if args.long or name not in ON_REQUEST]
    wanted = args.only.split(",") if args.only else usual
    if not set(wanted) <= set(parts):
        parser.error(f"--only {args.only}: expected some of {','.join(parts)}")
    figures = []
    for name in wanted:
        if not args.json:
            print(f"measuring: {name}", file=sys.stderr)
        figures += parts[name](args.quick)
    if not args.json:
        print(table(figures))
    report = {
        "suite": args.suite,
        "machine": machine(),
        "commit": commit(),
        "quick": args.quick,
        "figures": [figure.as_dict() for figure in figures],
    }
    print(json.dumps(report, allow_nan=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
