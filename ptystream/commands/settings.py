"""``ptystream check-config`` and ``ptystream schema``: no GPU, no network."""

import argparse

from ptystream.commands.common import add_config, add_profile, config_of
from ptystream.config import schema
from ptystream.ingest.endpoint import parse_endpoint
from ptystream.ingest.preprocess import Preprocess


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """Add what either takes."""
    if name == "check-config":
        add_config(parser)
        add_profile(parser)


def run(args: argparse.Namespace) -> int:
    """Print the schema, or the whole configuration with every default."""
    if args.command == "schema":
        print(schema())
        return 0
    config = config_of(args)
    for endpoint in (config.detector.endpoint, config.positions.endpoint):
        parse_endpoint(endpoint)
    Preprocess(config.detector.preprocess).read_files()
    print(config.model_dump_json(indent=2))
    return 0
