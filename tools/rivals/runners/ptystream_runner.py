# pyright: reportMissingImports=false
"""ptystream: what ``ptystream reconstruct`` does with its defaults, snapshots kept.

Settings: ``flags``, as after ``--set`` on the command line. It is run with the file of
the scan, as a user would, and with where its picture lies for the others' coordinates.
"""

import sys
from pathlib import Path

from common import Race

from ptystream import __version__
from ptystream.config import load
from ptystream.service import offline
from ptystream.service.offline import Progress


def main() -> int:
    """Reconstruct until its own measure says that it is done, or the time is up."""
    race = Race()
    told = race.settings
    import torch

    torch.set_num_threads(race.threads)
    # Processor time is the limit, as for the peers: ``race.over``.
    limits = [f"refine.max_s={10 * race.seconds}", f"engine.threads={race.threads}"]
    flags = [*told["flags"], *limits]
    config = load(environment={}, flags=flags)
    scan = offline.load(Path(told["cxi"]), config=config)

    def look(progress: Progress) -> None:
        if race.due():
            keep(progress.snapshot)

    def keep(snapshot) -> None:
        pairs = zip(snapshot.origin_m, told["centre_m"], snapshot.pixel_m, strict=True)
        origin_px = tuple((at - middle) / pixel for at, middle, pixel in pairs)
        race.keep(snapshot.object.prod(0), snapshot.probe, origin_px)

    _, last, _ = offline.reconstruct(
        scan, config, run="peers", progress=look, stop=race.over
    )
    if last is not None:
        keep(last)
    race.done(last.step if last else 0, ptystream=__version__, torch=torch.__version__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
