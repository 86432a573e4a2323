"""``ptystream simulate``: a detector and an encoder box on real sockets, or a file."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ptystream.commands.common import say_json, stopped_by_signals
from ptystream.commands.curve_flags import add_server_keys, admission_of
from ptystream.config import set_flags
from ptystream.sim.beamline import Beamline
from ptystream.sim.experiment import Experiment, build
from ptystream.sim.settings import PRESETS, preset
from ptystream.sim.truth import write_truth
from ptystream.tape.cxi_write import write_cxi


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
    parser.add_argument(
        "--cxi", type=Path, metavar="FILE", help="write the scan there, and stream none"
    )
    add_server_keys(parser)


def run(args: argparse.Namespace) -> int:
    """Stream, the senders' addresses printed first; or write a file."""
    changes: dict[str, Any] = {}
    set_flags(changes, args.set)
    settings = preset(args.preset, changes)
    if args.cxi:
        return _write(build(settings), args.cxi, args.truth)
    return _stream(Beamline(settings, admission_of(args)), args.truth)


def _write(experiment: Experiment, cxi: Path, truth: Path | None) -> int:
    """Write the scan, and the truth if asked; a beamline's own knowledge is printed."""
    _write_truth(experiment, truth)
    cxi.parent.mkdir(parents=True, exist_ok=True)
    name = experiment.settings.sample.name
    positions_m = experiment.positions_m(0)
    write_cxi(cxi, experiment.frames(0), positions_m, experiment.geometry, title=name)
    say_json({"cxi": str(cxi), "frames": len(positions_m), "meta": experiment.meta})
    return 0


def _stream(beamline: Beamline, truth: Path | None) -> int:
    with stopped_by_signals() as stop, beamline:
        _write_truth(beamline.experiment, truth)
        say_json(
            {
                "detector": beamline.detector.address,
                "encoder": beamline.encoder.address,
            }
        )
        for report in beamline.run(stop.is_set):
            say_json(asdict(report))
    return 0


def _write_truth(experiment: Experiment, path: Path | None) -> None:
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_truth(path, experiment.truth, experiment.settings.model_dump_json())
