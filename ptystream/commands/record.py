"""``ptystream record``: streams to a tape."""

import argparse
import time
from dataclasses import asdict
from pathlib import Path

from ptystream import __version__
from ptystream.commands.common import say_json, stopped_by_signals
from ptystream.ingest.endpoint import parse_endpoint
from ptystream.tape.recorder import Recorder
from ptystream.tape.taps import Tap


def add_arguments(parser: argparse.ArgumentParser, _name: str) -> None:
    """Add what ``record`` takes."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="TAPE")
    parser.add_argument(
        "--detector", default="ptys+sub://127.0.0.1:5601", metavar="URL"
    )
    parser.add_argument(
        "--positions", default="ptys+sub://127.0.0.1:5602", metavar="URL"
    )
    parser.add_argument("--scans", type=int, metavar="N", help="end after N scans")
    parser.add_argument(
        "--idle", type=float, metavar="SECONDS", help="end after so long a silence"
    )


def run(args: argparse.Namespace) -> int:
    """Record until a signal, N scans or silence; print what was recorded."""
    endpoints = {"det": args.detector, "pos": args.positions}
    taps = []
    for stream, url in endpoints.items():
        endpoint = parse_endpoint(url)
        taps.append(Tap(stream, endpoint.address, endpoint.pattern))
    header = {"software": f"ptystream {__version__}", "created": time.time()}
    recorder = Recorder(
        taps,
        args.output,
        header={**header, "endpoints": endpoints},
        scans=args.scans,
        idle_s=args.idle,
    )
    with stopped_by_signals() as stop, recorder:
        say_json({"recording": str(args.output), "endpoints": endpoints})
        while not (stop.is_set() or recorder.wait(0.1)):
            pass
    stats = recorder.stats()
    say_json({"tape": str(args.output), **asdict(stats)})
    return 0 if stats.dropped == 0 else 1
