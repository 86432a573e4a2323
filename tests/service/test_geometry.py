"""Who says what turns detector pixels into object pixels."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from ptystream.config import Config, load
from ptystream.errors import ConfigError
from ptystream.presets import read_preset
from ptystream.service.geometry import (
    Documents,
    documents_of,
    read_documents,
    resolve_geometry,
)
from ptystream.wire.messages import PLANCK_EV_M
from tests.service.exposures import GEOMETRY, START, config, start

TABLES = (
    "geometry.start_document.distance_m={keys=['scan.detector_distance']}",
    "geometry.start_document.energy_ev={keys=['energy_kev'], scale=1e3}",
    "geometry.baseline.distance_m={keys=['z'], scale=1e-3}",
    "geometry.baseline.energy_ev={keys=['dcm_th'], spacing_m=3.1355893e-10}",
    "geometry.default.distance_m=5",
)
NOBODY = start(geometry=None)


def resolve(*flags: str, scan=NOBODY, **documents: Any):
    return resolve_geometry(scan, config(*flags), Documents(**documents))


def test_each_source_gives_way_to_the_ones_before_it():
    """Any subset of the sources: the first in the stated order wins."""
    order = ("config", "start document", "baseline", "stream", "default")
    values = dict(zip(order, (1.0, 2.0, 3.0, GEOMETRY.distance_m, 5.0), strict=True))
    for present in product([True, False], repeat=5):
        there = dict(zip(order, present, strict=True))
        flags = [t for t in TABLES if there["default"] or "default" not in t]
        flags += ["geometry.energy_ev=8000", "geometry.detector_pixel_m=75e-6"]
        flags += ["geometry.distance_m=1"] if there["config"] else []
        documents = Documents(
            {"scan": {"detector_distance": 2}} if there["start document"] else {},
            {"z": [3000.0, 3001.0]} if there["baseline"] else {},
        )
        scan = start(geometry=GEOMETRY if there["stream"] else None)
        if not any(present):
            with pytest.raises(ConfigError, match="no distance_m"):
                resolve_geometry(scan, config(*flags), documents)
            continue
        found = resolve_geometry(scan, config(*flags), documents)
        first = next(name for name in order if there[name])
        assert found.distance_m == pytest.approx(values[first])
        assert found.origins["distance_m"].startswith(first)
        assert found.origins["wavelength_m"] == "config"


def test_a_refusal_names_the_value_where_it_was_looked_for_and_the_setting():
    with pytest.raises(ConfigError) as error:
        resolve(*TABLES[:3], "geometry.detector_pixel_m=55e-6")
    text = str(error.value)
    assert text.startswith("scan scan-1: no wavelength_m: looked in geometry.energy_ev")
    assert "start document (energy_kev), the stream" in text
    assert "geometry.default.energy_ev; set geometry.energy_ev; no distance_m:" in text
    assert "start document (scan.detector_distance), baseline (z), the stream" in text
    assert text.endswith("set geometry.distance_m")
    assert "pixel" not in text


def test_the_streams_own_origins_are_kept():
    said = replace(GEOMETRY, origins={"distance_m": "file"})
    found = resolve("geometry.energy_ev=8000", scan=start(geometry=said))
    assert found.wavelength_m == pytest.approx(PLANCK_EV_M / 8000)
    assert found.detector_pixel_m == GEOMETRY.detector_pixel_m
    assert found.origins == {
        "wavelength_m": "config",
        "distance_m": "file",
        "detector_pixel_m": "stream",
    }


def test_a_stream_that_says_some_of_it_fills_the_gaps():
    scan = start(geometry=None, meta={"geometry": {"detector_pixel_m": [7e-5, 8e-5]}})
    found = resolve("geometry.energy_ev=8000", "geometry.distance_m=2", scan=scan)
    assert found.detector_pixel_m == (7e-5, 8e-5)
    assert found.origins["detector_pixel_m"] == "stream"


@pytest.mark.parametrize(
    "pixel", ["big", [1e-4], [1e-4, -1e-4], [[1], 2], -1, True, float("nan"), {}]
)
def test_nonsense_in_a_streams_metadata_counts_as_not_said(pixel):
    nonsense = {"binning": "two", "transposed": 1}
    meta = {"geometry": {"detector_pixel_m": pixel}, "preprocess": nonsense}
    rest = ("geometry.energy_ev=8000", "geometry.distance_m=2")
    with pytest.raises(ConfigError, match="no detector_pixel_m"):
        resolve(*rest, scan=start(geometry=None, meta=meta))
    told = "geometry.default.detector_pixel_m=1e-4"
    found = resolve(*rest, told, scan=start(geometry=None, meta=meta))
    assert found.detector_pixel_m == (1e-4, 1e-4)


def test_an_angle_of_the_monochromator_is_an_energy():
    flags = (*TABLES, "geometry.detector_pixel_m=75e-6")
    found = resolve(*flags, baseline={"dcm_th": 11.4023})
    energy_ev = PLANCK_EV_M / found.wavelength_m
    assert energy_ev == pytest.approx(10_000, rel=1e-4)
    assert found.origins["wavelength_m"] == "baseline: dcm_th"
    # A wavelength that another source gives is not lost behind an energy.
    wins = resolve(*flags, start={"energy_kev": 9}, baseline={"dcm_th": 11.4023})
    assert PLANCK_EV_M / wins.wavelength_m == pytest.approx(9000)


@pytest.mark.parametrize(
    "value", [0, -1, "far", None, float("nan"), [], {"m": 1}, 10**400, True, 1e308]
)
def test_nonsense_in_a_document_is_refused_not_passed_over(value):
    flags = (*TABLES, "geometry.detector_pixel_m=75e-6", "geometry.energy_ev=8000")
    if value == 1e308:
        flags += ("geometry.start_document.distance_m.scale=1e9",)
    document = {"scan": {"detector_distance": value}}
    if value is None:  # the same as absent
        assert resolve(*flags, start=document).origins["distance_m"] == "default"
        return
    with pytest.raises(
        ConfigError, match=r"start document: scan\.detector_distance is"
    ):
        resolve(*flags, start=document)


@pytest.mark.parametrize(
    ("transposed", "pixel"), [(False, (150e-6, 110e-6)), (True, (110e-6, 150e-6))]
)
def test_the_pixel_is_that_of_the_frames_whoever_told_the_detectors(transposed, pixel):
    done = {"preprocess": {"binning": 2, "transposed": transposed}}
    parts = {"geometry": {"detector_pixel_m": [75e-6, 55e-6]}}
    scan = start(geometry=None, meta={**done, **parts})
    rest = ("geometry.energy_ev=8000", "geometry.distance_m=2")
    assert resolve(*rest, scan=scan).detector_pixel_m == pytest.approx(pixel)
    told = resolve(*rest, "geometry.detector_pixel_m=75e-6", scan=scan)
    assert told.detector_pixel_m == pytest.approx((150e-6, 150e-6))
    # The receiver has already turned a whole geometry.
    whole = start(geometry=GEOMETRY, meta=done)
    assert resolve(scan=whole).detector_pixel_m == GEOMETRY.detector_pixel_m


@pytest.mark.parametrize("angle", [float("inf"), 0, -11.4, "11.4 deg"])
def test_an_angle_that_is_no_energy_is_refused(angle):
    with pytest.raises(ConfigError, match="baseline: dcm_th is"):
        resolve(*TABLES, "geometry.detector_pixel_m=1e-4", baseline={"dcm_th": angle})


def test_documents_come_in_the_scans_metadata():
    meta = {"start_document": {"energy_kev": 9}, "baseline": {"z": 2000}}
    scan = start(geometry=None, meta=meta)
    found = resolve_geometry(scan, config(*TABLES, "geometry.detector_pixel_m=75e-6"))
    assert found.origins["wavelength_m"] == "start document: energy_kev"
    assert found.distance_m == pytest.approx(2)
    assert documents_of({"start_document": 3}) == Documents()


HXN_START = {
    "scan_id": 404611,
    "beamline_id": "HXN",
    "x_scale_factor": 0.9542,
    "z_scale_factor": 1.0,
    "scan": {
        "type": "2D_FLY_PANDA",
        "detectors": ["fs", "eiger2", "xspress3"],
        "detector_distance": 2.05,
        "dwell": 0.01,
    },
}


def hxn(*flags: str) -> Config:
    return load(
        environment={}, presets=[read_preset("profiles", "hxn")], flags=list(flags)
    )


def test_the_profile_of_hxn_reads_its_documents():
    documents = Documents(HXN_START, {"dcm_th": [11.4023, 11.4023], "zpsth": [-30.0]})
    told = read_documents(documents, hxn())
    values = {name: found.value for name, found in told.items()}
    assert values == pytest.approx(
        {
            "distance_m": 2.05,
            "dwell_s": 0.01,
            "detector_pixel_m": 75e-6,
            "energy_ev": 10_000,
            "angle_deg": -30,
            "x_scale_m": 0.9542e-10,
            "y_scale_m": 1e-10,
        },
        rel=1e-4,
    )
    found = resolve_geometry(NOBODY, hxn(), documents)
    assert found.origins == {
        "wavelength_m": "baseline: dcm_th",
        "distance_m": "start document: scan.detector_distance",
        "detector_pixel_m": "start document: scan.detectors",
    }


@pytest.mark.parametrize(
    ("detectors", "pixel_m"),
    [(["merlin1"], 55e-6), (["maxipix1", "eiger1"], 55e-6), ("eiger1", 75e-6)],
)
def test_the_detectors_name_tells_its_pixel(detectors, pixel_m):
    document = {**HXN_START, "scan": {**HXN_START["scan"], "detectors": detectors}}
    told = read_documents(Documents(document), hxn())
    assert told["detector_pixel_m"].value == pixel_m


def test_an_unknown_detector_is_refused_by_its_name():
    document = {"scan": {"detectors": ["pilatus"]}}
    with pytest.raises(ConfigError, match=r"\['pilatus'\], expected one of eiger, mer"):
        read_documents(Documents(document), hxn())


def test_without_documents_the_profile_says_what_it_misses():
    with pytest.raises(
        ConfigError, match=r"baseline \(dcm_th\).*set geometry.energy_ev"
    ):
        resolve_geometry(NOBODY, hxn())
    scan = replace(NOBODY, geometry=GEOMETRY)
    assert set(resolve_geometry(scan, hxn()).origins.values()) == {"stream"}


def test_the_user_wins_over_the_profile():
    told = hxn("positions.per_frame=4", "detector.endpoint='ptys+sub://127.0.0.1:1'")
    assert told.positions.per_frame == 4
    assert told.detector.endpoint == "ptys+sub://127.0.0.1:1"
    assert told.positions.endpoint.startswith("panda-json+sub://")


def test_what_a_run_is_announced_with_wins_over_its_documents():
    told = {"energy_ev": {"value": 8000, "origin": "baseline: mono"}}
    start = {"ptystream": {"energy_ev": 9000, "distance_m": 2.0}}
    meta = {"start_document": start, "told_geometry": told}
    found = resolve_geometry(replace(START, meta=meta), config())
    assert found.wavelength_m == pytest.approx(1.239841984e-6 / 8000)
    assert found.origins["wavelength_m"] == "baseline: mono"
    assert found.origins["distance_m"] == "start document: ptystream.distance_m"


@pytest.mark.parametrize("value", [None, -1, 0, "8000", True, float("nan"), [1, 2]])
def test_nonsense_that_a_run_is_announced_with_is_refused(value):
    meta = {"told_geometry": {"energy_ev": {"value": value, "origin": "baseline: e"}}}
    with pytest.raises(ConfigError, match="baseline: e gives energy_ev"):
        resolve_geometry(replace(START, meta=meta), config())


def test_a_descriptors_configuration_is_read_like_a_baseline():
    table = '{distance_m={keys=["det_distance"]}}'
    meta = {"configuration": {"det_distance": 3.0}}
    found = resolve_geometry(
        replace(START, meta=meta), config(f"geometry.baseline={table}")
    )
    assert (found.distance_m, found.origins["distance_m"]) == (
        3.0,
        "descriptor: det_distance",
    )
