"""``ptystream control``: ask a running service."""

import argparse
import json

from ptystream.commands.curve_flags import add_client_keys, client_keys_of
from ptystream.publish.client import ControlClient

COMMANDS = ("status", "stop", "abort", "hold", "resume", "save", "forget", "ping")


def add_arguments(parser: argparse.ArgumentParser, _name: str) -> None:
    """Add what ``control`` takes."""
    parser.add_argument("what", choices=COMMANDS, help="the command")
    parser.add_argument(
        "--address", default="tcp://127.0.0.1:5610", help="the control socket"
    )
    parser.add_argument("--timeout", type=float, default=3.0, metavar="SECONDS")
    add_client_keys(parser)


def run(args: argparse.Namespace) -> int:
    """Print the reply as JSON; 1 if the service refused."""
    keys = client_keys_of(args)
    with ControlClient(args.address, args.timeout, keys) as client:
        reply = client.ask(args.what)
    print(json.dumps(reply, indent=2))
    return 0 if reply.get("ok") else 1
