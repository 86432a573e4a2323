"""A fly scan of HXN: its documents, its wires, the profile, and the result."""
# ruff: noqa: F811  (fixtures are imported by name)

import json

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
import pytest
import zmq
from ophyd_async.core import init_devices, soft_signal_rw

from ptystream.bluesky.callbacks import Announcer
from ptystream.wire.curve import VARIABLES
from tests.bluesky.conftest import documents, engine, named  # noqa: F401
from tests.system.conftest import better_than_empty
from tests.system.hxn import HxnStreams, bragg_deg, experiment, start_document

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]


@pytest.fixture
def streams(engine):
    with zmq.Context() as context:
        with init_devices():
            eiger2 = HxnStreams(context)
        yield eiger2
        context.destroy(linger=0)


@pytest.fixture
def service(serve, streams, monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    optics = experiment()[0].meta["optics"]
    lens = ", ".join(f"{key} = {json.dumps(value)}" for key, value in optics.items())
    serving = serve(
        streams.endpoints,
        "--profile=hxn",
        "--set=detector.preprocess.size=[32, 32]",
        f"--set=first_probe.optics={{{lens}}}",
    )
    streams.wait()
    return serving


def fly_2d(streams, moved, **more):
    """A plan that knows nothing of us."""

    @bpp.baseline_decorator(moved)
    @bpp.run_decorator(md=start_document(**more))
    def plan():
        yield from bps.prepare(streams, None, wait=True)
        yield from bps.kickoff(streams, wait=True)
        yield from bps.complete(streams, wait=True)

    return plan()


def test_two_fly_scans_are_reconstructed_as_their_documents_say(
    engine, service, streams, documents
):
    with init_devices():
        dcm_th = soft_signal_rw(float, bragg_deg(), units="deg")
        zpsth = soft_signal_rw(float, -30.0, units="deg")
    true_m = experiment()[0].positions_m(0)
    with Announcer(service.addresses["control"]) as announcer:
        engine.subscribe(announcer)
        for number in (1, 2):
            plan = fly_2d(streams, [dcm_th, zpsth], scan_number=number)
            (uid,) = engine(plan).run_start_uids
            ended = service.ended()
            assert ended["frames"]["paired"] == 144, ended
            result = service.result(ended)
            assert better_than_empty(result)
            said = result.provenance
            assert said["origins"] == {
                "wavelength_m": "baseline: dcm_th",
                "distance_m": "start document: scan.detector_distance",
                "detector_pixel_m": "start document: scan.detectors",
            }
            geometry = experiment()[0].geometry
            assert said["geometry"]["wavelength_m"] == pytest.approx(
                geometry.wavelength_m, rel=1e-5
            )
            scan = said["scan"]
            assert (scan["bluesky_uid"], scan["data_session"]) == (uid, "pass-123456")
            assert scan["start_document"]["scan_number"] == number
            assert said["documents"]["angle_deg"]["value"] == -30
            assert said["config"]["publish"]["presets"] == ["profiles/hxn"]
            # The scale factors are in the documents alone.
            np.testing.assert_allclose(result.positions_m, true_m, atol=2e-10)
    assert [d["exit_status"] for d in named(documents, "stop")] == ["success"] * 2
