"""One scan with each field: streamed live, reconstructed offline, scored."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptystream.sim.experiment import Experiment, build
from tools.benchmarks.engine_step import fft_floor
from tools.benchmarks.figures import interleaved
from tools.benchmarks.live_memory import Memory
from tools.benchmarks.live_scans import Scan
from tools.benchmarks.live_score import (
    MOMENTS,
    Curve,
    Judge,
    Pair,
    curve,
    snapshots,
)
from tools.benchmarks.live_stream import Streamed, reconstructed, record, stream

LAST, AFTER, END = "last frame", "2 s later", "end"
AFTER_S = 2.0
BASELINE = "pixels"
QUICK_LOOKS = 6


@dataclass(frozen=True)
class Offline:
    """The same frames offline: PSNR, and what ``reconstruct`` said."""

    psnr_db: Pair
    said: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One scan with one field.

    Attributes:
        curve: PSNR over time on the area scanned so far.
        end_db: PSNR of the result file; ``flat_db``: an empty object's.
        offline: None for plain pixels that are there to compare with only.
        floor_s: one FFT and one inverse of a step's batch, measured after the run.
    """

    scan: Scan
    field: str
    live: Streamed
    curve: Curve
    end_db: Pair
    flat_db: Pair
    probe_error: float
    offline: Offline | None
    floor_s: float

    def psnr_db(self, moment: str) -> Pair:
        """Return the score at one of the three moments."""
        return self.end_db if moment == END else self.curve.psnr_db(moment)

    @property
    def behind_db(self) -> Pair | None:
        """By how much 2 s after the last frame falls short of offline."""
        if self.offline is None:
            return None
        return minus(self.offline.psnr_db, self.psnr_db(AFTER))

    @property
    def steps_over_floor(self) -> float:
        """A step's mean time while frames came, over the floor."""
        return self.live.steps.mean_s / self.floor_s


def minus(a: Pair, b: Pair) -> Pair:
    """Return the difference of two scores."""
    return a[0] - b[0], a[1] - b[1]


@dataclass(frozen=True)
class Bench:
    """Runs scans; files of a run are left in ``folder`` only where they are small.

    ``say`` is told what is going on, ``hurry`` divides all times.
    """

    folder: Path
    hurry: float = 1.0
    say: Callable[[str], object] = print

    def scan(self, scan: Scan, fields: Sequence[str]) -> Iterator[Run]:
        """Run each field on a scan; offline too, but for the baseline's."""
        self.say(f"{scan.name}: {scan.about}")
        experiment = build(scan.settings(hurry=self.hurry))
        judge, tape = Judge(experiment), self.folder / f"{scan.name}.tape"
        tape.unlink(missing_ok=True)
        record(scan, tape)
        for field in dict.fromkeys((*fields, BASELINE)):
            yield self._run(scan, field, judge, experiment, tape, field in fields)
        tape.unlink()

    def memory(self, scan: Scan, field: str) -> Memory:
        """Return the peak memory of a scan that nothing else is asked of."""
        self.say(f"{scan.name}: {scan.about}, for memory")
        return self._stream(scan, field, build(scan.settings(hurry=self.hurry))).peak

    def _run(
        self,
        scan: Scan,
        field: str,
        judge: Judge,
        experiment: Experiment,
        tape: Path,
        offline: bool,
    ) -> Run:
        self.say(f"  {field}, live")
        live = self._stream(scan, field, experiment)
        floor_s = _floor_s()
        result = Path(live.ended["result"])
        end_db, flat_db, probe_error = judge.result(result)
        last_s = live.last_frame_s
        looks = MOMENTS if self.hurry == 1 else QUICK_LOOKS
        moments = {LAST: last_s, AFTER: last_s + AFTER_S}
        seen = curve(judge, snapshots(live.stack), live.began_s, moments, looks=looks)
        live.stack.unlink()
        found = self._offline(scan, field, judge, tape) if offline else None
        return Run(
            scan, field, live, seen, end_db, flat_db, probe_error, found, floor_s
        )

    def _stream(self, scan: Scan, field: str, experiment: Experiment) -> Streamed:
        folder = self.folder / f"{scan.name}-{field}"
        folder.mkdir(parents=True, exist_ok=True)
        size_px = max(experiment.truth.object.shape[-2:])
        return stream(scan, field, folder, hurry=self.hurry, size_px=size_px)

    def _offline(self, scan: Scan, field: str, judge: Judge, tape: Path) -> Offline:
        self.say(f"  {field}, offline")
        output = self.folder / f"{scan.name}-{field}" / "offline.h5"
        said = reconstructed(scan, field, tape, output, hurry=self.hurry)
        psnr_db, _, _ = judge.result(output)
        return Offline(psnr_db, said)


def _floor_s() -> float:
    """Return the floor's time, a median."""
    seconds = interleaved({"floor": fft_floor()}, repeats=5, calls=5)["floor"]
    return statistics.median(seconds)
