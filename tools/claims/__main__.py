"""Command line: ``python -m tools.claims [--full] [--only NAME …]``."""

import argparse
import dataclasses
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from tools.claims import priors, ptyinr
from tools.claims.row import Row, markdown


def main() -> int:
    """Try the claims one by one, and print the table."""
    args = _parser().parse_args()
    rows: list[Row] = []
    for name, claim in _claims(full=args.full).items():
        if args.only and name not in args.only:
            continue
        began_s = time.monotonic()
        for row in claim():
            rows.append(row)
            print(f"{row.verdict:14s} {row.claim}: {row.ours}", flush=True)
            _keep(args, rows)
        print(
            f"               ({name}: {time.monotonic() - began_s:.0f} s)", flush=True
        )
    print("\n" + markdown(rows), end="")
    return 0


def _claims(*, full: bool) -> dict[str, Callable[[], Iterator[Row]]]:
    """Return what can be tried, by name."""
    a, b = (ptyinr.FULL, priors.FULL) if full else (ptyinr.SMALL, priors.SMALL)
    of_a = {name: lambda f=f: f(a) for name, f in ptyinr.CLAIMS.items()}
    of_b = {name: lambda f=f: f(b) for name, f in priors.CLAIMS.items()}
    return {**of_a, **of_b}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tools/papers", description=__doc__)
    parser.add_argument("--full", action="store_true", help="sizes for a GPU; hours")
    parser.add_argument(
        "--only", nargs="*", choices=sorted(_claims(full=False)), metavar="NAME"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    return parser


def _keep(args: argparse.Namespace, rows: list[Row]) -> None:
    """Write what there is so far: a run of an hour may be cut."""
    if args.markdown:
        args.markdown.write_text(markdown(rows))
    if args.json:
        made_on = (
            f"{platform.processor() or platform.machine()}, torch {torch.__version__}"
        )
        told = [{**dataclasses.asdict(row), "verdict": row.verdict} for row in rows]
        args.json.write_text(json.dumps({"machine": made_on, "claims": told}, indent=1))


if __name__ == "__main__":
    sys.exit(main())
