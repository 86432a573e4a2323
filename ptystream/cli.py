"""The command line: ``ptystream COMMAND --help`` says what each one takes."""

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from ptystream import __version__
from ptystream.errors import PtystreamError

COMMANDS = {
    "serve": "reconstruct scans as they are acquired",
    "reconstruct": "reconstruct a CXI file or a tape",
    "rerun": "make a result again from what it was made of, and compare",
    "simulate": "be a beamline: a detector and an encoder box on real sockets",
    "record": "write streams to a tape, as they come",
    "replay": "send a tape or a file of a scan again",
    "tape": "look at a tape, check it, cut it, export it",
    "score": "compare a result with the truth, or with another result",
    "watch": "show a running service in the terminal",
    "dashboard": "show a running service on a web page",
    "control": "ask a running service: status, stop, abort, hold, resume, save",
    "keys": "make CURVE keys, for sockets that other machines may reach",
    "check-config": "check a configuration file, and print what it means",
    "schema": "print the JSON schema of the configuration",
    "demo": "simulate, stream, reconstruct and report, in two minutes",
}
ROOMS = {"check-config": "settings", "schema": "settings"}
"""Where a command lives, if not in the module of its own name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0 done, 1 failed, 2 wrong usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Idle training threads must sleep, not spin: with one core too few, spinning makes
    # a step take seconds. Read when torch loads, so it is set before any import of it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return 130


def _run(arguments: list[str]) -> int:
    """Parse and run; what goes wrong on purpose or with a file is one line."""
    parser = _parser(arguments[0] if arguments else "")
    args = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.WARNING if args.quiet else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        return args.run(args)
    except (PtystreamError, OSError) as error:
        print(f"ptystream {args.command}: {error}", file=sys.stderr)
        return 1


def _parser(wanted: str) -> argparse.ArgumentParser:
    """Return the parser; only the wanted command's module is imported."""
    parser = argparse.ArgumentParser(
        prog="ptystream", description="Live ptychography for beamlines."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument(
            "-q", "--quiet", action="store_true", help="log warnings and errors only"
        )
        if name == wanted:
            room = importlib.import_module(
                f"ptystream.commands.{ROOMS.get(name, name)}"
            )
            room.add_arguments(command, name)
            command.set_defaults(run=room.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
