"""Measured data: a Siemens star, streamed by our own sender into the service."""

import json
import math

import numpy as np
import pytest

from ptystream.publish.files import Result
from tests.publish.test_documents_live import free_addresses
from tests.system.conftest import Serving
from tests.system.processes import SERVED, Child, ran

pytestmark = [pytest.mark.system, pytest.mark.shared, pytest.mark.timeout(400)]

SPOKES = 30
CENTRE_M = (-0.05e-6, -0.25e-6)
RADII_M = (0.7e-6, 0.9e-6, 1.1e-6)


def spokes(result: Result) -> tuple[int, float]:
    """Return the strongest number of spokes, and its share of the power on rings."""
    plane = result.object.prod(0)
    phase = np.angle(plane * np.exp(-1j * np.angle(plane.mean())))
    turn = np.linspace(0, 2 * math.pi, 720, endpoint=False)
    power = np.zeros(361)
    for radius_m in RADII_M:
        at_m = (
            CENTRE_M[0] + radius_m * np.sin(turn),
            CENTRE_M[1] + radius_m * np.cos(turn),
        )
        y, x = (
            np.round((at - first) / pixel).astype(int)
            for at, first, pixel in zip(
                at_m, result.origin_m, result.pixel_m, strict=True
            )
        )
        ring = phase[y, x]
        power += np.abs(np.fft.rfft(ring - ring.mean())) ** 2
    return int(power.argmax()), float(power.max() / power.sum())


def test_a_measured_star_comes_out_of_the_stream(shared, tmp_path):
    file = shared / "data" / "siemens-star.cxi"
    det, pos = free_addresses(2)
    flags = (
        f"--detector=ptys+sub://{det}",
        f"--positions=ptys+sub://{pos}",
        f"--results={tmp_path}",
        *SERVED,
        "--set=refine.max_s=100",
        "--set=refine.max_steps=100",
        "--set=first_probe.source=file",
        f"--set=first_probe.file={file}",
        "--scans=3",
    )
    where = (f"--detector=tcp://{det}", f"--positions=tcp://{pos}", "--rate=200")
    results: list[Result] = []
    with Child(tmp_path, "serve", *flags) as child:
        service = Serving(child, tmp_path)
        for half, frames in (("", 516), ("even", 258), ("odd", 258)):
            which = [f"--half={half}"] if half else []
            (*_, sent) = ran(tmp_path, "replay", str(file), *where, *which)
            ended = service.ended(120)
            assert sent["dropped"] == sent["unrouted"] == 0
            assert ended["frames"]["paired"] == frames, child.said()
            results.append(service.result(ended))
        assert child.ends() == 0, child.said()
    # Reached: 0.29 of the empty object's error, and 23 nm between the halves.
    for result in results:
        history = result.history
        assert history["held_out_error"][-1] < 0.5 * history["flat_error"][-1]
    count, share = spokes(results[0])
    assert count == SPOKES
    assert share > 0.2  # reached: 0.5; without a star 0.04

    halves = sorted(tmp_path.glob("siemens-star*.h5"), key=lambda p: p.stat().st_mtime)[
        1:
    ]
    (found,) = ran(tmp_path, "score", "--half", "--json", *map(str, halves))
    assert found["frc"]["half_bit"]["resolution_m"] < 40e-9, json.dumps(found["frc"])
