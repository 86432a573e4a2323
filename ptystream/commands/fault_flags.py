"""The flags of a replay's faults."""

import argparse

from ptystream.errors import ConfigError
from ptystream.tape.faults import Faults

SHARES = {
    "drop": "lose this share of the messages",
    "duplicate": "send this share of the messages twice",
    "reorder": "send this share of the messages after up to eight later ones",
    "truncate": "cut a part of this share of the messages short",
    "corrupt": "flip a bit in this share of the messages",
}
FRAMES = {
    "position-lag": "send positions so many frames late",
    "abort-after": "send no more than so many frames of each scan, then its end",
    "restart-after": "begin again after so many frames",
}


def add_faults(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each fault."""
    group = parser.add_argument_group(
        "faults", "the same seed gives the same; all are counted in what is printed"
    )
    for name, meaning in SHARES.items():
        group.add_argument(
            f"--{name}", type=float, default=0.0, metavar="SHARE", help=meaning
        )
    for name, meaning in FRAMES.items():
        group.add_argument(f"--{name}", type=int, metavar="FRAMES", help=meaning)
    for name, meaning in (("no-start", "start"), ("no-end", "end")):
        group.add_argument(
            f"--{name}",
            action="append",
            default=[],
            choices=("det", "pos"),
            help=f"leave out the {meaning} of this stream's scans",
        )
    group.add_argument(
        "--jitter",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="delay each message by up to so long",
    )
    group.add_argument(
        "--delay",
        action="append",
        default=[],
        metavar="STREAM=SECONDS",
        help="delay a whole stream, det or pos",
    )
    group.add_argument(
        "--flatten", action="store_true", help="send each part as its own message"
    )
    group.add_argument("--seed", type=int, default=0, help="of the faults")


def faults_of(args: argparse.Namespace) -> Faults:
    """Return the faults that the flags ask for; ConfigError for a wrong delay."""
    return Faults(
        **{name: getattr(args, name) for name in SHARES},
        jitter_s=args.jitter,
        late_s=dict(_delay(text) for text in args.delay),
        position_lag=args.position_lag or 0,
        no_start=args.no_start,
        no_end=args.no_end,
        abort_after=args.abort_after,
        restart_after=args.restart_after,
        flatten=args.flatten,
        seed=args.seed,
    )


def _delay(text: str) -> tuple[str, float]:
    stream, _, seconds = text.partition("=")
    try:
        return stream, float(seconds)
    except ValueError as e:
        raise ConfigError(f"--delay {text}: expected STREAM=SECONDS") from e
