import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ptystream.errors import ConfigError
from ptystream.recon.dilation import dilated
from ptystream.recon.reconstruction import FIRST
from ptystream.recon.snapshot import Quality
from ptystream.service.scan import (
    NO_EXTRAS,
    Extras,
    ScanRun,
    is_better,
    usable_shape,
)
from tests.recon.small_scan import SIZE, SmallScan
from tests.service.exposures import (
    GEOMETRY,
    PIXEL_M,
    START,
    Clock,
    config,
    exposures,
    moved,
    start,
)

OPTICS = {
    "kind": "zone_plate",
    "diameter_m": 60e-6,
    "outer_zone_m": 50e-9,
    "defocus_m": 30e-6,
}


def run_of(*flags: str, extras: Extras = NO_EXTRAS, clock=None, **changes) -> ScanRun:
    clock = {} if clock is None else {"clock": clock}
    return ScanRun(
        start(**changes), config(*flags), run="run-1", extras=extras, **clock
    )


def true_probe() -> np.ndarray:
    return SmallScan().probe[None].astype(np.complex64)


def test_a_scan_from_its_first_exposure_to_its_result():
    run = run_of("object.field=pixels", extras=Extras(probe=true_probe()))
    assert (run.phase, run.snapshot(), run.step()) == ("waiting", None, False)
    taken = exposures()
    for one in taken[: FIRST - 1]:
        run.add(one)
    assert run.phase == "waiting"
    for one in taken[FIRST - 1 :]:
        run.add(one)
    assert run.phase == "live"
    while run.recon is not None and run.recon.engine.steps < 20:
        assert run.step()
    run.end("complete")
    assert run.phase == "refining"
    while not run.done:
        run.step()
    assert run.phase == "done"
    assert not run.step()
    snapshot, end = run.result()
    assert (end.reason, end.refined) == ("complete", "the limit of 0.3 s")
    assert 0.3 <= end.seconds_after_last_frame < 20
    assert snapshot is not None
    assert snapshot.exposures == len(taken)
    assert snapshot.pixel_m == pytest.approx((PIXEL_M, PIXEL_M))
    quality = snapshot.quality
    assert quality.held_out_error < 0.1 * quality.flat_error


def test_the_best_state_is_kept_not_the_last():
    clock = Clock()
    run = run_of(
        "object.field=smooth",
        "refine.max_s=100",
        "refine.check_s=1",
        "probe.known=true",
        clock=clock,
        extras=Extras(probe=true_probe()),
    )
    for one in exposures():
        run.add(one)
    run.end("complete")
    for _ in range(30):
        run.step()
    clock.now_s += 2
    run.step()  # looks at the quality
    best = run.snapshot()
    assert best is not None
    assert run.recon is not None
    run.recon.object.inner.canvas.values += 0.5  # the last state is spoilt
    run.cut("enough")
    kept, end = run.result()
    assert kept is not None
    assert end.refined == "enough"
    assert kept.quality.held_out_error == pytest.approx(best.quality.held_out_error)


def test_a_challenger_s_turn_is_no_stall(monkeypatch):
    """Rates fade when quality stalls, but what is published learns nothing then."""
    monkeypatch.setattr("ptystream.recon.refine.SETTLED_STEPS", 0)
    clock = Clock()
    run = run_of(
        "refine.max_s=100",
        "refine.check_s=0.1",
        "refine.patience_s=1",
        "object.contest_steps=80",
        clock=clock,
        extras=Extras(probe=true_probe()),
    )
    for one in exposures():
        run.add(one)
    run.end("complete")
    recon, refiner = run.recon, vars(run)["_refiner"]
    assert recon is not None
    waited = 0
    for _ in range(160):
        clock.now_s += 0.05
        run.step()
        waited += recon.trying
    assert waited == 80
    assert refiner.fade == 1.0
    assert not run.done


def test_time_that_went_into_first_probes_is_told():
    clock = Clock()
    small = dilated(torch.from_numpy(true_probe()), 0.5).numpy()
    run = run_of("refine.max_s=8", clock=clock, extras=Extras(probe=small))
    for one in exposures():
        run.add(one)
    run.end("complete")
    while not run.done:
        clock.now_s += 1
        run.step()
    _, end = run.result()
    assert end.refined == (
        "the limit of 8 s, with first probes still compared: nothing was learned"
    )


def test_better_is_by_what_was_held_out():
    run = run_of(extras=Extras(probe=true_probe()))
    for one in exposures():
        run.add(one)
    run.step()
    snapshot = run.snapshot()
    assert snapshot is not None

    def of(error: float):
        return replace(snapshot, quality=Quality(held_out_error=error))

    assert is_better(of(0.1), of(0.2))
    assert is_better(of(0.1), of(0.103))
    assert not is_better(of(0.1), of(0.101))
    assert not is_better(of(0.2), of(0.1))
    assert not is_better(None, of(0.1))
    assert is_better(of(0.1), of(float("nan")))


def test_a_scan_of_no_exposure_has_no_result():
    run = run_of()
    run.end("timed out")
    assert run.done
    snapshot, end = run.result()
    assert snapshot is None
    assert (end.reason, end.refined) == ("timed out", "nothing to refine")


def test_a_scan_of_few_exposures_is_begun_at_its_end():
    run = run_of()
    for one in exposures()[:3]:
        run.add(one)
    run.end("complete")
    assert run.recon is not None
    while not run.done:
        run.step()


def test_cut_is_an_abort_unless_the_scan_had_ended():
    live, ended = run_of(), run_of()
    for run in live, ended:
        for one in exposures():
            run.add(one)
    ended.end("complete")
    for run in live, ended:
        run.cut("stopped by request")
        assert run.done
    assert [r.result()[1].reason for r in (live, ended)] == ["aborted", "complete"]


def test_refinement_can_be_switched_off():
    run = run_of("refine.max_s=0")
    for one in exposures():
        run.add(one)
    run.end("complete")
    assert run.done
    assert run.result()[1].refined == "no time was given"


def test_refinement_can_be_so_many_steps():
    """Those of the live part are not among them."""
    run = run_of("refine.max_s=100", "refine.max_steps=3")
    for one in exposures():
        run.add(one)
    while not (run.recon and run.recon.engine.steps):
        run.step()
    live = run.recon.engine.steps
    run.end("complete")
    while not run.done:
        run.step()
    assert run.recon.engine.steps == live + 3
    assert run.result()[1].refined == "the limit of 3 steps"


def test_dark_and_faraway_exposures_are_counted_and_left_out():
    run = run_of("scan.max_object_mpx=1")
    taken = exposures()
    dark = [
        replace(e, frame=replace(e.frame, counts=np.zeros_like(e.frame.counts)))
        for e in taken[:4]
    ]
    wild = [moved(taken[5], (1e3, 0.0)), moved(taken[6], (-1e300, 1e300))]
    for one in [*dark, wild[0], *taken, wild[1]]:
        run.add(one)
    assert (run.dark, run.far) == (4, 2)
    snapshot = run.snapshot()
    assert snapshot is not None
    assert snapshot.exposures == len(taken)
    assert max(snapshot.object.shape) < 200


def test_a_frame_of_another_shape_is_refused_in_words():
    run = run_of()
    for one in exposures():
        run.add(one)
    other = exposures()[0]
    counts = np.ones((SIZE + 2, SIZE + 2), np.uint16)
    with pytest.raises(ConfigError, match=r"\(26, 26\), expected \(24, 24\)"):
        run.add(replace(other, frame=replace(other.frame, counts=counts)))


@pytest.mark.parametrize("shape", [None, (24, 26), (25, 25), (1, 1)])
def test_only_square_and_even_patterns_can_be_used(shape):
    with pytest.raises(ConfigError, match=r"square and even; set detector"):
        usable_shape(start(shape=shape))


def first_probe(run: ScanRun) -> np.ndarray:
    """Return the probe that a run begins with, at unit light."""
    for one in exposures()[:FIRST]:
        run.add(one)
    snapshot = run.snapshot()
    assert snapshot is not None
    return snapshot.probe / np.sqrt((np.abs(snapshot.probe) ** 2).sum())


def alike(a: np.ndarray, b: np.ndarray) -> float:
    """Return the overlap of two probes, in 0..1."""
    a, b = a[0], b[0]
    return float(abs(np.vdot(a, b)) / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_the_first_probe_is_what_the_user_gave_then_the_streams_then_the_patterns():
    given = np.ones((1, SIZE, SIZE), np.complex64)
    own = true_probe()
    both = Extras(probe=own, given_probe=given)
    assert alike(first_probe(run_of(extras=both)), given) > 0.999
    streams = Extras(probe=own)
    assert alike(first_probe(run_of(extras=streams)), own) > 0.999
    meta = {"optics": OPTICS}
    by_optics = first_probe(run_of(meta=meta))
    assert alike(by_optics, given) < 0.9
    told = "first_probe.optics={kind='zone_plate',diameter_m=1e-4,outer_zone_m=9e-8}"
    by_user = first_probe(run_of(told, meta=meta))
    assert alike(by_user, by_optics) < 0.99
    by_pattern = first_probe(run_of())
    assert alike(by_pattern, by_optics) < 0.95


def test_the_source_can_be_chosen():
    given = np.ones((1, SIZE, SIZE), np.complex64)
    extras = Extras(probe=true_probe(), given_probe=given)
    meta = {"optics": OPTICS}
    found = {
        source: first_probe(run_of(f"first_probe.source={source}", extras=extras))
        for source in ("stream", "file", "pattern")
    }
    assert alike(found["stream"], true_probe()) > 0.999
    assert alike(found["file"], given) > 0.999
    assert alike(found["pattern"], found["stream"]) < 0.999
    chance = first_probe(run_of("first_probe.source=random", extras=extras))
    assert alike(chance, found["pattern"]) < 0.9
    focus = first_probe(run_of("first_probe.defocus_m=0", meta=meta))
    assert alike(focus, first_probe(run_of(meta=meta))) < 0.98


@pytest.mark.parametrize("source", ["stream", "file", "optics"])
def test_a_source_that_is_not_there_is_refused(source):
    run = run_of(f"first_probe.source={source}")
    with pytest.raises(ConfigError, match=f"'{source}': scan scan-1 has none"):
        first_probe(run)
    run.cut("given up", reason="error")  # and that is the end of it
    assert run.result()[0] is None
    assert run.result()[1].reason == "error"


@pytest.mark.parametrize(
    ("probe", "said"),
    [
        (np.ones((1, 8, 8)), r"\(8, 8\), expected \(24, 24\)"),
        (np.zeros((1, SIZE, SIZE)), "dark"),
        (np.full((1, SIZE, SIZE), np.nan), "not finite"),
    ],
)
def test_a_given_probe_must_be_of_use(probe, said):
    run = run_of(extras=Extras(given_probe=probe))
    with pytest.raises(ConfigError, match=said):
        first_probe(run)


@pytest.mark.parametrize(
    "optics", ["a lens", 3, {"kind": "mirrors"}, {}, ["zone_plate"]]
)
def test_optics_that_nobody_knows_are_passed_over(optics):
    known = first_probe(run_of())
    assert alike(first_probe(run_of(meta={"optics": optics})), known) > 0.999


def test_more_modes_than_given_are_added():
    probe = first_probe(run_of("probe.modes=3", extras=Extras(probe=true_probe())))
    assert probe.shape == (3, SIZE, SIZE)
    power = (np.abs(probe) ** 2).sum((1, 2))
    assert power[0] > 0.8
    assert power[2] > 0


def test_provenance_is_safe_as_json_and_complete():
    run = run_of(meta={"sample": "star"})
    told = json.loads(json.dumps(run.info.provenance, allow_nan=False))
    assert told["seed"] == 0
    assert told["config"]["engine"]["threads"] == 1
    assert told["geometry"]["wavelength_m"] == GEOMETRY.wavelength_m
    assert told["scan"] == {"sample": "star"}
    assert told["software"].startswith("ptystream ")
    assert (run.info.run, run.info.scan) == ("run-1", START.scan)
