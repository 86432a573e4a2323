"""``ptystream record``: streams to a tape."""

import argparse
import os
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from ptystream import __version__
from ptystream.commands.common import (
    add_config,
    config_of,
    say_json,
    stopped_by_signals,
)
from ptystream.ingest.endpoint import check_keys, check_taking, parse_endpoint
from ptystream.service.curve import curve_keys
from ptystream.service.recorded import tap_of
from ptystream.tape.recorder import Recorder
from ptystream.tape.taps import Tap
from ptystream.wire.curve import ClientKeys


def add_arguments(parser: argparse.ArgumentParser, _name: str) -> None:
    """Add what ``record`` takes."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="TAPE",
        help="a new file; in a folder that exists, one named by the time",
    )
    parser.add_argument("--detector", metavar="URL", help="detector.endpoint")
    parser.add_argument(
        "--positions", metavar="URL", help="positions.endpoint; none: no positions"
    )
    parser.add_argument(
        "--allow-pull",
        action="store_true",
        help="also where that takes frames away from another consumer",
    )
    parser.add_argument("--scans", type=int, metavar="N", help="end after N scans")
    parser.add_argument(
        "--idle", type=float, metavar="SECONDS", help="end after so long a silence"
    )
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Record until a signal, N scans or silence; print what was recorded."""
    named = {"detector.endpoint": args.detector, "positions.endpoint": args.positions}
    config = config_of(args, named)
    endpoints = {"det": config.detector.endpoint, "pos": config.positions.endpoint}
    endpoints = {name: url for name, url in endpoints.items() if url != "none"}
    keys = {
        "det": curve_keys(config.detector.curve, os.environ),
        "pos": curve_keys(config.positions.curve, os.environ),
    }
    allowed = args.allow_pull or config.detector.allow_pull
    taps = [_tap(n, url, allowed, keys.get(n)) for n, url in endpoints.items()]
    tape = tape_path(args.output)
    recorder = Recorder(
        taps,
        tape,
        header={
            "software": f"ptystream {__version__}",
            "created": time.time(),
            "endpoints": endpoints,
        },
        scans=args.scans,
        idle_s=args.idle,
    )
    with stopped_by_signals() as stop, recorder:
        say_json({"recording": str(tape), "endpoints": endpoints})
        while not (stop.is_set() or recorder.wait(0.1)):
            pass
    stats = recorder.stats()
    say_json({"tape": str(tape), **asdict(stats)})
    return 0 if stats.dropped == 0 else 1


def tape_path(output: Path) -> Path:
    """Return the file to write: in a folder, one with the time (UTC) for a name."""
    if not output.is_dir():
        return output
    return output / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tape"


def _tap(stream: str, url: str, allowed: bool, keys: ClientKeys | None) -> Tap:
    endpoint = parse_endpoint(url)
    check_taking(endpoint, allowed=allowed, how="--allow-pull")
    check_keys(endpoint, keys)
    return tap_of(stream, endpoint, keys)
