import threading

import pytest
from ophyd_async.core import init_devices, soft_signal_rw

from ptystream.bluesky.adaptive import QualityEvaluation
from ptystream.errors import ConfigError, StoppedError


def test_the_score_is_that_of_the_runs_result(service):
    later = threading.Timer(0.3, lambda: service.ends("u", error=0.07))
    later.start()
    evaluate = QualityEvaluation(service.addresses[0], "sharpness", timeout_s=10)
    assert evaluate("u", [{"_id": 3, "defocus": 1.0}]) == [
        {"_id": 3, "sharpness": 0.07}
    ]
    later.join()


def test_a_run_without_a_result_is_not_waited_for_without_end(service):
    service.ends("other")
    with pytest.raises(StoppedError, match="no result of run u"):
        QualityEvaluation(service.addresses[0], timeout_s=0.3)("u", [{"_id": 1}])


def test_a_run_without_the_quality_is_no_score(service):
    service.ends("u", "error")
    with pytest.raises(ConfigError, match="no sharpness: error, no geometry"):
        QualityEvaluation(service.addresses[0], quality="sharpness")("u", [{"_id": 1}])


def test_a_reconstruction_is_not_split_among_suggestions(service):
    with pytest.raises(ValueError, match="2 suggestions"):
        QualityEvaluation(service.addresses[0])("u", [{"_id": 1}, {"_id": 2}])


class Grid:
    """An optimizer of bluesky-adaptive that tries each value once."""

    def __init__(self, values):
        self.values, self.seen = values, []
        self._next = 0

    def suggest(self, num_points=None):
        number, self._next = self._next, self._next + 1
        return [{"_id": number, "defocus": self.values[number]}]

    def ingest(self, points):
        self.seen += list(points)

    def get_best_points(self):
        best = min(self.seen, key=lambda p: p["held_out_error"])
        return [(best["_id"], {"defocus": self.values[best["_id"]]}, best)]


def test_it_steers_an_optimizer_of_bluesky_adaptive(engine, service):
    plans = pytest.importorskip("bluesky_adaptive.plans")
    protocols = pytest.importorskip("bluesky_adaptive.protocols")
    with init_devices():
        defocus = soft_signal_rw(float, 0.0)
    grid = Grid([0.0, 0.3, 0.6])

    def scanned(name, document):
        if name == "stop":
            value = engine.value
            service.ends(document["run_start"], error=(value - 0.3) ** 2 + 0.01)

    defocus_values = iter(grid.values)
    engine.value = 0.0

    def noted(name, document):
        if name == "start" and document.get("plan_name") != "optimize":
            engine.value = next(defocus_values)

    engine.subscribe(noted, "start")
    engine.subscribe(scanned, "stop")
    problem = protocols.OptimizationProblem(
        optimizer=grid,
        actuators=[defocus],
        sensors=[],
        evaluation_function=QualityEvaluation(service.addresses[0], timeout_s=5),
    )
    engine(plans.optimize(problem, iterations=3))
    assert grid.get_best_points()[0][1] == {"defocus": 0.3}
