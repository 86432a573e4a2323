"""More frames than the engine can take: what is lost, what is told, and for how long.

The engine is slow by its settings (a batch of 512), so the limit lies at some hundred
frames a second on any machine, and 2,000 are beyond it.
"""

from pathlib import Path

import numpy as np
import pytest

from ptystream.publish.files import read_result
from tests.deploy.programs import program
from tests.deploy.prometheus import Prometheus
from tools.soaking.load import GROWTH_MIB, Scan, scanned
from tools.soaking.served import Parts, Served

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SLOW = (
    "--set=engine.threads=1",
    "--set=engine.batch=512",
    "--set=scan.backlog=64",
    "--set=refine.max_s=0.5",
    "--set=detector.ring_mib=24",
)
BEFORE, OVER, AFTER = (200.0, 2.0), (2000.0, 3.0), (50.0, 8.0)
LONG_AFTER = (50.0, 20.0)
PASSES_S = 15.0
"""It takes a second on a machine that has nothing else to do."""
LINES = 40
RULES = Path(__file__).parents[2] / "deploy/prometheus"


def is_as_promised(scan: Scan) -> None:
    """Assert that losses are counted, and all is well again soon."""
    assert scan.lost["backlog"] > 1000
    assert scan.uncounted == 0
    assert scan.recovery_s < PASSES_S, scan.looks


def overloaded(folder: Path, parts: Parts) -> tuple[Scan, dict[str, float]]:
    """Return a scan that was too fast for a while, and the metrics after it."""
    with Served(folder, SLOW) as served:
        scan = scanned(served, parts)
        metrics = served.metrics()
        assert served.end() == 0
    return scan, metrics


def test_an_overload_thins_the_scan_evenly_is_counted_and_passes(tmp_path):
    scan, metrics = overloaded(tmp_path, [BEFORE, OVER, AFTER])
    is_as_promised(scan)
    assert any(look.thins for look in scan.looks)
    lost = 'frames_lost_total{reason="backlog"}'
    assert metrics[lost] == scan.lost["backlog"]
    result = read_result(Path(scan.ended["result"]))
    assert result.positions_m is not None
    assert len(result.positions_m) == scan.used
    y_m = result.positions_m[:, 0]
    lines, _ = np.histogram(y_m, bins=LINES)
    assert lines.min() > 0, "a line of the raster is left out"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_overload_that_lasts_raises_an_alert_and_memory_stays(tmp_path):
    binary = program("prometheus", "Debian's prometheus")
    with Served(tmp_path, SLOW) as served:
        target = served.addresses["http"].removeprefix("http://")
        with Prometheus(binary, RULES, target, tmp_path / "p") as watch:
            scan = scanned(served, [BEFORE, (2000.0, 90.0), LONG_AFTER])
            fired = 'max_over_time(ALERTS{alertstate="firing"}[5m])'
            names = {one["metric"]["alertname"] for one in watch.query(fired)}
        assert served.end() == 0
    is_as_promised(scan)
    assert scan.growth_mib < GROWTH_MIB
    assert "PtystreamLosingFrames" in names
