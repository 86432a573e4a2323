"""``ptystream simulate``: a detector and an encoder box on real sockets."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ptystream.commands.common import say_json, stopped_by_signals
from ptystream.config import set_flags
from ptystream.sim.beamline import Beamline
from ptystream.sim.settings import PRESETS, preset
from ptystream.sim.truth import write_truth


def add_arguments(parser: argparse.ArgumentParser, _name: str) -> None:
    """Add what ``simulate`` takes."""
    parser.add_argument(
        "--preset", choices=PRESETS, default="dense", help="what to begin with"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting, such as scan.overlap=0.5",
    )
    parser.add_argument(
        "--truth", type=Path, metavar="FILE", help="write object and probe there"
    )


def run(args: argparse.Namespace) -> int:
    """Print the senders' addresses, stream, and print what was sent."""
    changes: dict[str, Any] = {}
    set_flags(changes, args.set)
    settings = preset(args.preset, changes)
    with stopped_by_signals() as stop, Beamline(settings) as beamline:
        if args.truth:
            args.truth.parent.mkdir(parents=True, exist_ok=True)
            write_truth(
                args.truth, beamline.experiment.truth, settings.model_dump_json()
            )
        say_json(
            {
                "detector": beamline.detector.address,
                "encoder": beamline.encoder.address,
            }
        )
        for report in beamline.run(stop.is_set):
            say_json(asdict(report))
    return 0
