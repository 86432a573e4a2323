import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.dashboard import facts
from ptystream.status import ServiceStatus


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.2398e-10, "124 pm"),
        (75e-6, "75 µm"),
        (0.9999999, "1 "),
        (10_000.0, "10 k"),
        (0.0, "0 p"),
        (None, facts.UNKNOWN),
        (float("nan"), facts.UNKNOWN),
        (True, facts.UNKNOWN),
    ],
)
def test_quantities_are_told_in_the_prefix_that_suits(value, text):
    assert facts.quantity(value, "m").startswith(text)


def test_a_fresh_service_is_told_without_a_number_it_has_not():
    status = ServiceStatus(state="idle").as_dict()
    rows = [
        facts.state(status),
        *facts.quality(status),
        *facts.flow(status, float("nan")),
    ]
    rows += facts.health(None) + facts.geometry({}, None)
    told = {row["name"]: row["value"] for row in rows}
    assert told["State"].startswith("idle")
    for name in ("Held-out error", "Resolution (FRC)", "Frame rate", "Wavelength"):
        assert told[name] == facts.UNKNOWN
    assert told["Data health"] == facts.UNKNOWN
    assert told["Lost"] == "0"


def test_losses_are_told_by_reason_and_failing_outputs_by_name():
    frames = {
        "received": 90,
        "expected": 100,
        "lost": {"late": 2, "missing": 1, "far": 0},
    }
    sinks = [{"name": "files", "failures": 0}, {"name": "tiled", "failures": 3}]
    rows = {r["name"]: r for r in facts.flow({"frames": frames, "sinks": sinks}, 12.0)}
    assert rows["Frames"]["value"] == "90 of 100"
    assert (rows["Lost"]["value"], rows["Lost"]["tone"]) == ("3", "bad")
    assert rows["Lost"]["note"] == "2 late, 1 missing"
    assert rows["Output tiled"]["value"] == "3 failures"
    assert "Output files" not in rows


def test_health_tells_each_finding_and_how_sure():
    (found,) = facts.health([{"fault": "positions lag", "detail": "by 3", "sure": 0.9}])
    assert (found["name"], found["value"], found["note"]) == (
        "positions lag",
        "90% sure",
        "by 3",
    )
    (well,) = facts.health([])
    assert well["tone"] == "good"


def test_geometry_names_who_said_each_value():
    values = {
        "wavelength_m": 1.23984198e-10,
        "distance_m": 2.0,
        "detector_pixel_m": [75e-6, 75e-6],
        "origins": {"wavelength_m": "baseline", "distance_m": "config"},
    }
    rows = {r["name"]: r for r in facts.geometry(values, [5e-9, 6e-9])}
    assert rows["as photon energy"]["value"] == "10 keV"
    assert rows["Wavelength"]["note"] == "baseline"
    assert rows["Distance"]["note"] == "config"
    assert rows["Detector pixel"]["value"] == "75 µm"
    assert rows["Object pixel"]["value"] == "5 nm × 6 nm"


def test_past_scans_come_newest_first_and_no_more_than_are_kept():
    ends = [{"scan": f"s{i}", "started_s": 1.7e9 + i} for i in range(facts.KEPT + 5)]
    rows = facts.past(ends)
    assert len(rows) == facts.KEPT
    assert rows[0]["scan"] == f"s{facts.KEPT + 4}"
    assert rows[0]["began_s"] == str(1_700_000_000 + facts.KEPT + 4)


@given(st.dictionaries(st.text(), st.text()))
def test_whatever_a_stranger_wrote_stays_a_string(meta):
    text = json.dumps(facts.past([{"scan": json.dumps(meta)}]))
    assert json.loads(text)[0]["scan"] == json.dumps(meta)
