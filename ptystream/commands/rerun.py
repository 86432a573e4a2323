"""``ptystream rerun``: a result made again from what it was made of."""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from ptystream import __version__
from ptystream.commands.common import say_json
from ptystream.commands.reconstruct import make
from ptystream.config import Config
from ptystream.errors import ConfigError, FileFormatError
from ptystream.publish.files import Result, read_result
from ptystream.service.made_of import LIVE, Job, files_of, job_of, sums


def add_arguments(parser: argparse.ArgumentParser, _name: str) -> None:
    """Add what ``rerun`` takes."""
    parser.add_argument("result", type=Path, help="a result file")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: RESULT_again.h5"
    )
    parser.add_argument(
        "--input", type=Path, metavar="FILE", help="where its data lie by now"
    )


def run(args: argparse.Namespace) -> int:
    """Make the result again; 1 if it should be the same to the bit, and isn't."""
    before = read_result(args.result)
    try:
        job, known = job_of(before.provenance)
        config = Config.model_validate(before.provenance["config"])
    except (FileFormatError, KeyError) as error:
        raise FileFormatError(f"{args.result}: {error}") from error
    except ValidationError as error:
        raise ConfigError(
            f"{args.result}: its settings are not those of ptystream {__version__}, "
            f"but of {before.version}: {error}"
        ) from error
    if args.input is not None:
        told, now = str(job.file.absolute()), str(args.input.absolute())
        known = {now if name == told else name: s for name, s in known.items()}
        job = Job(args.input, job.scan, job.half, job.engine)
    _check(job, config, known)
    again = args.result.with_name(f"{args.result.stem}_again.h5")
    output = args.output or again
    if output.exists() and output.samefile(args.result):
        raise ConfigError(f"{output}: the result that is to be made again")
    done = make(job, config, output, quiet=args.quiet)
    if done is None:
        return 1
    said = compared(before, read_result(output))
    exact = config.engine.deterministic and job.engine == LIVE and bool(known)
    said |= {"deterministic": exact, "version": [before.version, __version__]}
    say_json({"result": str(output), "of": str(args.result), **said})
    return 1 if exact and not said["same"] else 0


def _check(job: Job, config: Config, known: dict[str, str]) -> None:
    """Refuse files that are not those which the result was made of."""
    if not known:
        print("a tape of a live scan: it was not summed", file=sys.stderr)
        return
    for name, digest in sums(files_of(job, config)).items():
        if known.get(name) != digest:
            raise FileFormatError(
                f"{name}: SHA-256 {digest}, the result was made of {known.get(name)}"
            )


def compared(before: Result, after: Result) -> dict[str, Any]:
    """Return whether two results are the same to the bit, or how far they are off.

    ``difference`` is the object's, root mean square over the first one's; None where
    the shapes differ.
    """
    pairs = [(getattr(before, n), getattr(after, n)) for n in ("object", "probe")]
    same = all(np.array_equal(a, b) for a, b in pairs)
    a, b = pairs[0]
    difference = None
    if a.shape == b.shape:
        difference = float(np.linalg.norm(a - b) / np.linalg.norm(a))
    errors = [r.quality.held_out_error if r.quality else None for r in (before, after)]
    return {"same": same, "difference": difference, "held_out_error": errors}
