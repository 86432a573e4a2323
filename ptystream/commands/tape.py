"""``ptystream tape``: look at a tape, check it, cut it, export it."""

import argparse
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TypeVar

from ptystream.commands.common import (
    add_config,
    config_of,
    say_json,
    stopped_by_signals,
)
from ptystream.errors import ConfigError
from ptystream.service.recorded import decoders_of
from ptystream.tape.cut import Cut, Cutter
from ptystream.tape.index import TapeIndex
from ptystream.tape.kinds import marked
from ptystream.tape.log import TapeReader, TapeWriter
from ptystream.tape.summary import scans, summary

N = TypeVar("N", int, float)
AT_ONCE = 64
"""Records that are written together."""


def add_arguments(parser: argparse.ArgumentParser, _name: str) -> None:
    """Add what ``tape`` takes."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    info = actions.add_parser("info", help="say what is on a tape")
    info.add_argument("tape", type=Path)
    info.add_argument(
        "--scans", action="store_true", help="list the scans too: reads all of it"
    )
    info.set_defaults(act=_info)
    verify = actions.add_parser("verify", help="check every byte; 1 if any is wrong")
    verify.add_argument("tape", type=Path)
    verify.set_defaults(act=_verify)
    _add_cut(actions.add_parser("cut", help="make a tape of a part of it"))
    _add_export(actions.add_parser("export", help="make a CXI file of a scan"))


def run(args: argparse.Namespace) -> int:
    """Do what is asked for; print one line of JSON."""
    return args.act(args)


def _add_cut(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tape", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="TAPE")
    parser.add_argument("--scan", metavar="UID", help="one scan")
    parser.add_argument("--frames", metavar="FROM:TO", help="frames by their index")
    parser.add_argument("--seconds", metavar="FROM:TO", help="since the first record")
    parser.set_defaults(act=_cut)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tape", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="CXI")
    parser.add_argument("--scan", metavar="UID", help="which scan; the first, unless")
    parser.add_argument(
        "--follow",
        action="store_true",
        help="while it is recorded; the file can be read meanwhile (HDF5 SWMR)",
    )
    add_config(parser)
    parser.set_defaults(act=_export)


def _info(args: argparse.Namespace) -> int:
    with TapeReader(args.tape) as tape:
        told = summary(tape.header, TapeIndex.read(tape))
        if args.scans:
            told["scans"] = scans(marked(tape, decoders_of(tape.header)))
    say_json({"tape": str(args.tape), **told})
    return 0


def _verify(args: argparse.Namespace) -> int:
    with TapeReader(args.tape) as tape:
        records = sum(1 for _ in tape)
        damage = tape.damage
    told = {"tape": str(args.tape), "records": records, "damaged": bool(damage)}
    say_json({**told, **asdict(damage)})
    return 1 if damage else 0


def _cut(args: argparse.Namespace) -> int:
    cut = Cut(
        scan=args.scan,
        frames=_range(args.frames, int, "--frames"),
        seconds=_range(args.seconds, float, "--seconds"),
    )
    with TapeReader(args.tape) as tape:
        decoders = decoders_of(tape.header)
        cutter = Cutter(cut)
        cutter.look(marked(tape, decoders))
        header = {**tape.header, "cut": asdict(cut), "cut_from": args.tape.name}
        with TapeWriter(args.output, header) as writer:
            kept = 0
            records = cutter.pick(marked(tape, decoders))
            while some := list(islice(records, AT_ONCE)):
                writer.append_batch(some)
                kept += len(some)
            size = writer.bytes
        damage = asdict(tape.damage)
    say_json(
        {"tape": str(args.output), "records": kept, "bytes": size, "damage": damage}
    )
    return 0


def _export(args: argparse.Namespace) -> int:
    # Torch comes with it, and takes seconds that the other actions needn't wait for.
    from ptystream.service.export import export, export_growing

    config = config_of(args)
    with stopped_by_signals() as stop, TapeReader(args.tape) as tape:
        if args.follow:
            done = export_growing(
                tape, args.output, config, args.scan, stop=stop.is_set
            )
        else:
            done = export(tape, args.output, config, args.scan)
        damage = asdict(tape.damage)
    say_json({"file": str(args.output), **asdict(done), "damage": damage})
    return 0


def _range(text: str | None, kind: type[N], flag: str) -> tuple[N, N] | None:
    """Return the two numbers of ``FROM:TO``; ConfigError for anything else."""
    if text is None:
        return None
    first, _, end = text.partition(":")
    try:
        found = kind(first), kind(end)
    except ValueError as e:
        raise ConfigError(f"{flag} {text}: expected FROM:TO") from e
    if not 0 <= found[0] < found[1]:
        raise ConfigError(f"{flag} {text}: expected 0 <= FROM < TO")
    return found
