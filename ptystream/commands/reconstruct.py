"""``ptystream reconstruct``: a file through the same engine as a live scan."""

import argparse
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ptystream.commands.common import (
    add_config,
    config_of,
    say_json,
    stopped_by_signals,
)
from ptystream.config import Config
from ptystream.presets import preset_names
from ptystream.publish.files import result_of, write_result
from ptystream.publish.findings import findings
from ptystream.publish.history import History
from ptystream.publish.picture import draw
from ptystream.publish.report import Ended, write_report
from ptystream.publish.sink import FrameCounts
from ptystream.recon.classical.make import NAMES
from ptystream.service.classical import reconstruct as classical
from ptystream.service.first_object import first_object
from ptystream.service.first_probe import first_probe
from ptystream.service.made_of import LIVE, Job, files_of, sums
from ptystream.service.offline import Acquired, Progress, half, load, reconstruct


def add_arguments(parser: argparse.ArgumentParser, _name: str) -> None:
    """Add what ``reconstruct`` takes."""
    parser.add_argument("file", type=Path, help="a tape, a CXI or an HXN-style file")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--field", help="the object's field: auto, smooth, pixels, siren, multires, …"
    )
    parser.add_argument("--probe", help="the probe's field: pixels, hashgrid, unet")
    parser.add_argument(
        "--engine",
        choices=(LIVE, *NAMES),
        default=LIVE,
        help="the live engine, or a classical one (settings: classical.NAME)",
    )
    parser.add_argument(
        "--recipe",
        choices=preset_names("recipes"),
        help="a paper's own settings, beneath yours",
    )
    parser.add_argument("--seconds", type=float, help="at most so long (default: 30)")
    parser.add_argument("--scan", metavar="UID", help="which scan of a tape")
    parser.add_argument(
        "--half", choices=("even", "odd"), help="every second exposure only, for FRC"
    )
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="count time in steps and use one thread: the same object each time",
    )
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Reconstruct, write result and picture, print one line of JSON."""
    named = {
        "object.field": args.field,
        "probe.field": args.probe,
        "refine.max_s": args.seconds,
        "engine.deterministic": args.deterministic or None,
        "engine.threads": 1 if args.deterministic else None,
    }
    job = Job(args.file, args.scan, args.half, args.engine)
    done = make(job, config_of(args, named), args.output, quiet=args.quiet)
    if done is None:
        return 1
    say_json(done)
    return 0


def make(
    job: Job, config: Config, output: Path, *, quiet: bool
) -> dict[str, Any] | None:
    """Reconstruct, write result, picture and page; return what to say of them.

    None if no exposure came, which it says. What the result was made of is in it.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    history = History()
    with ThreadPoolExecutor(1) as beside:
        scan = _load(job, config)  # a file that can't be read is told at once
        summed = beside.submit(sums, files_of(job, config))
        number = len(scan.exposures)
        counts = FrameCounts(number, number, number)

        def report(progress: Progress) -> None:
            history.add(progress.seconds, progress.snapshot, counts)
            if not quiet:
                print(_line(progress), file=sys.stderr)

        engine = partial(classical, name=job.engine)
        with stopped_by_signals() as stop:
            scan_run, snapshot, end = (reconstruct if job.engine == LIVE else engine)(
                scan, config, run=str(uuid.uuid4()), progress=report, stop=stop.is_set
            )
        if snapshot is None:
            print("nothing was reconstructed: no exposure came", file=sys.stderr)
            return None
        info = scan_run.info
        made_of = {"input": job.as_dict(summed.result())}
        info = replace(info, provenance={**info.provenance, **made_of})
    result = result_of(snapshot, info, history.columns())
    write_result(output, result)
    picture, page = output.with_suffix(".png"), output.with_suffix(".html")
    draw(result, history.columns(), picture, job.file.name)
    columns, drawn = history.columns(), picture.read_bytes()
    write_report(page, Ended(info, snapshot, counts, end, columns, drawn))
    resolution_m = snapshot.quality.resolution_m
    return {
        "result": str(output),
        "picture": str(picture),
        "report": str(page),
        "exposures": snapshot.exposures,
        "steps": snapshot.step,
        "seconds": round(end.seconds_after_last_frame, 2),
        "held_out_error": snapshot.quality.held_out_error,
        "flat_error": snapshot.quality.flat_error,
        "resolution_m": resolution_m if resolution_m > 0 else None,
        "converged": snapshot.quality.converged,
        "health": findings(snapshot),
        "stopped_because": end.refined,
    }


def _load(job: Job, config: Config) -> Acquired:
    """Return the scan, with the first probe and object that the settings name."""
    scan = load(job.file, scan=job.scan, config=config)
    extras = replace(
        scan.extras,
        given_probe=first_probe(config),
        given_object=first_object(config),
    )
    scan = replace(scan, extras=extras)
    if job.half:
        scan = replace(scan, exposures=half(scan.exposures, job.half))
    return scan


def _line(progress: Progress) -> str:
    """Return one line of progress."""
    q = progress.snapshot.quality
    return (
        f"{progress.seconds:6.1f} s  step {progress.snapshot.step:6d}  "
        f"loss {q.loss:.3g}  held-out error {q.held_out_error:.3g} "
        f"(empty object {q.flat_error:.3g})"
    )
