import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.bluesky.documents import (
    MAX_BYTES,
    energy_ev,
    frames_of,
    is_derived,
    trimmed,
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), anything, max_size=8))
def test_whatever_is_in_a_document_fits_a_request(document):
    kept, left_out = trimmed(document)
    assert len(json.dumps(kept, allow_nan=False)) < 2 * MAX_BYTES
    assert len(kept) + len(left_out) == len(document)


def test_what_is_large_is_left_out_by_name():
    points = list(np.linspace(0, 1, 10_000))
    kept, left_out = trimmed({"uid": "u", "points": points, "shape": (3, 4)})
    assert kept == {"uid": "u", "shape": [3, 4]}
    assert left_out == ["points"]


def test_many_values_share_the_room():
    kept, left_out = trimmed({f"key{n}": "x" * 3000 for n in range(30)})
    assert len(json.dumps(kept)) < MAX_BYTES + 1000
    assert len(left_out) == 30 - len(kept) > 0


def test_a_run_made_of_another_is_known():
    assert is_derived({"uid": "a", "original_run_uid": "b"})
    assert not is_derived({"uid": "a"})


SPEC = {
    "type": "Fly",
    "spec": {
        "type": "ConstantDuration",
        "constant_duration": 0.01,
        "spec": {
            "type": "Product",
            "outer": {"type": "Linspace", "axis": "y", "start": 0, "stop": 1, "num": 3},
            "inner": {"type": "Linspace", "axis": "x", "start": 0, "stop": 2, "num": 5},
            "gap": True,
        },
    },
}


@pytest.mark.parametrize(
    ("start", "frames"),
    [
        ({"scanspec": SPEC}, 15),
        ({"scanspec": SPEC, "shape": [9, 9]}, 15),
        ({"scanspec": {"type": "no such"}, "shape": [9, 9]}, 81),
        ({"shape": [30, 40]}, 1200),
        ({"scan": {"shape": [30, 40]}}, 1200),
        ({"scan": {"scan_input": [-1.0, 1.0, 50, -2.0, 2.0, 60]}}, 3000),
        ({"num_points": 7}, 7),
        ({"shape": "30x40", "num_points": True}, None),
        ({"shape": [0, 4]}, None),
        ({}, None),
    ],
)
def test_how_many_frames_a_start_document_promises(start, frames):
    if "scanspec" in start:
        pytest.importorskip("scanspec")
    assert frames_of(start) == frames


@pytest.mark.parametrize(
    ("value", "units", "ev"),
    [
        (9.0, "keV", 9000.0),
        (9000.0, "eV", 9000.0),
        (9.0, "", 9000.0),
        (9000, "", 9000),
        (9.0, "mm", None),
        (0.0, "keV", None),
        ("9", "keV", None),
        (True, "keV", None),
    ],
)
def test_an_energy_has_the_unit_of_its_data_key(value, units, ev):
    assert energy_ev(value, units) == ev
