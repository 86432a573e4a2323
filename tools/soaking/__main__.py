"""``tools/soak``: trials too long for the tests. ``tools/soak TRIAL --help`` says more.

A trial is a module with ``arguments(parser)``, which adds its flags, and
``run(args) -> int``, which prints figures and returns the exit code.
"""

import argparse
import sys

from tools.soaking import faults, hours, load

TRIALS = {"faults": faults, "hours": hours, "load": load}
"""By name; each module's docstring is its help."""


def main() -> int:
    """Run the trial that is asked for."""
    parser = argparse.ArgumentParser(prog="tools/soak", description=__doc__)
    choose = parser.add_subparsers(dest="trial", required=True)
    for name, trial in TRIALS.items():
        about = (trial.__doc__ or "").strip()
        trial.arguments(choose.add_parser(name, help=about, description=about))
    args = parser.parse_args()
    return TRIALS[args.trial].run(args)


if __name__ == "__main__":
    sys.exit(main())
