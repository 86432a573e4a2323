"""``ptystream dashboard``: the web page of a running service."""

import argparse
import logging
from pathlib import Path

from ptystream.commands.common import say_json, stopped_by_signals
from ptystream.commands.curve_flags import add_client_keys, client_keys_of
from ptystream.errors import ConfigError
from ptystream.publish.exposure import check_reach

HOST = "127.0.0.1"
EXPECTED = "loopback, behind a proxy that speaks TLS if need be, or --insecure"
CHATTY = ("tornado.access", "bokeh")
"""They log each request, twice a second for each page."""


def add_arguments(parser: argparse.ArgumentParser, _name: str) -> None:
    """Add what ``dashboard`` takes."""
    for name, port in (("status", 5611), ("preview", 5612), ("control", 5610)):
        parser.add_argument(
            f"--{name}",
            default=f"tcp://{HOST}:{port}",
            metavar="ADDRESS",
            help=f"the service's {name} socket (default: tcp://{HOST}:{port})",
        )
    parser.add_argument(
        "--listen",
        default=f"{HOST}:5613",
        metavar="HOST:PORT",
        help=f"where the page is (default: {HOST}:5613; port 0: any free one)",
    )
    parser.add_argument(
        "--origin",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="another name that browsers call the page by, behind a proxy say",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="who knows the token in it may hold, resume, save and stop; "
        "without it the page only shows",
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="listen beyond loopback, unencrypted: token and pictures can be read "
        "on their way",
    )
    parser.add_argument(
        "--sessions", type=int, default=16, metavar="N", help="pages at once"
    )
    add_client_keys(parser)


def run(args: argparse.Namespace) -> int:
    """Serve the page until a signal; print one line of JSON with its address."""
    try:
        from ptystream.dashboard.feed import Addresses
        from ptystream.dashboard.guard import read_token
        from ptystream.dashboard.server import Dashboard
    except ImportError as error:
        raise ConfigError(
            f"dashboard: {error}; pip install 'ptystream[dashboard]'"
        ) from error
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    host, _, port = args.listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"--listen {args.listen!r}: expected HOST:PORT")
    check_reach("--listen", host, insecure=args.insecure, instead=EXPECTED)
    keys = client_keys_of(args)
    dashboard = Dashboard(
        Addresses(args.control, args.status, args.preview, keys),
        host,
        int(port),
        token=read_token(args.token_file) if args.token_file else None,
        origins=args.origin,
        sessions=args.sessions,
    )
    with stopped_by_signals() as stop, dashboard:
        say_json({"ready": {"dashboard": dashboard.address}})
        dashboard.run(stop)
    return 0
