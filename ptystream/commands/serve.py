"""``ptystream serve``: the live service."""

import argparse
import logging
import os

from ptystream.commands.common import (
    add_config,
    add_profile,
    config_of,
    say_json,
    stopped_by_signals,
)
from ptystream.errors import StoppedError
from ptystream.service.first_object import first_object
from ptystream.service.first_probe import first_probe
from ptystream.service.live import Service
from ptystream.service.scan import Extras

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser, _name: str) -> None:
    """Add what ``serve`` takes."""
    add_config(parser)
    add_profile(parser)
    parser.add_argument(
        "--detector", metavar="URL", help="such as ptys+sub://HOST:PORT"
    )
    parser.add_argument("--positions", metavar="URL", help="the encoders' stream")
    parser.add_argument(
        "--field", help="the object's field: auto, smooth, pixels, siren, …"
    )
    parser.add_argument("--results", metavar="DIR", help="where results are kept")
    parser.add_argument(
        "--scans", type=int, metavar="N", help="end after N scans (default: serve on)"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal; print one line of JSON with the bound addresses."""
    named = {
        "detector.endpoint": args.detector,
        "positions.endpoint": args.positions,
        "object.field": args.field,
        "publish.results": args.results,
    }
    config = config_of(args, named)
    extras = Extras(given_probe=first_probe(config), given_object=first_object(config))
    service = Service(config, extras=extras)
    try:
        with stopped_by_signals() as stop, service:
            say_json({"ready": service.addresses()})
            service.run(stop, scans=args.scans, finished=say_json)
    except StoppedError as error:
        if not service.hangs:
            raise
        # To end the interpreter under a thread that is inside torch would abort it.
        log.error("%s", error)
        os._exit(1)
    return 0
