import json
import math
import subprocess
import sys

import event_model
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.publish.documents import DerivedRun
from ptystream.publish.metadata import MAX_DEPTH, clean
from ptystream.publish.sink import FrameCounts, RunEnd, RunInfo
from ptystream.recon.findings import Finding
from ptystream.recon.snapshot import Quality

FRAMES = FrameCounts(expected=100, received=40, paired=38, lost={"ring_full": 2})
END = RunEnd("complete", "converged", 2.5)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner)
    ),
    max_leaves=8,
)


def validate(documents):
    for name, document in documents:
        kind = event_model.DocumentNames[name]
        event_model.schema_validators[kind].validate(document)


def whole_run(info, snapshots, end=END):
    run = DerivedRun(info, clock=lambda: 1.7e9 + 5)
    documents = [run.start()]
    for snapshot in snapshots:
        documents += run.update(snapshot, FRAMES)
    return documents + run.stop(None, FRAMES, end)


def test_a_run_is_valid_and_in_order(info, snapshot):
    documents = whole_run(info(), [snapshot(step=1), snapshot(step=2)])
    validate(documents)
    names = [name for name, _ in documents]
    assert names == ["start", "descriptor", "event", "event", "stop"]
    events = [document for name, document in documents if name == "event"]
    assert [e["seq_num"] for e in events] == [1, 2]
    assert documents[-1][1]["num_events"] == {"recon": 2}


def test_the_start_links_the_raw_run_and_copies_what_identifies_it(info):
    meta = {
        "uid": "raw-uid",
        "scan_id": 4711,
        "data_session": "pass-1",
        "cycle": "2026-3",
        "proposal": {"proposal_id": "1", "a.b": 2},
        "sample": "siemens",
        "beamline_id": "HXN",
        "tiled_access_tags": ["pass-1"],
        "detectors": ["eiger"],
        "num_points": 5,
    }
    _, start = DerivedRun(info(**meta)).start()
    validate([("start", start)])
    assert start["uid"] == "run-1"
    assert start["time"] == 1.7e9
    assert start["original_run_uid"] == start["raw_uid"] == "raw-uid"
    assert start["scan_uid"] == "scan-1"
    assert start["plan_name"] == "ptystream"
    assert start["original_scan_id"] == 4711
    assert "scan_id" not in start
    for key in ("data_session", "cycle", "sample", "beamline_id", "tiled_access_tags"):
        assert start[key] == meta[key]
    assert start["proposal"] == {"proposal_id": "1", "a_b": 2}
    assert start["analysis"]["config"] == {"field": "pixels"}
    assert "detectors" not in start
    assert "num_points" not in start


def test_without_metadata_the_scan_uid_is_the_link(info):
    _, start = DerivedRun(info()).start()
    assert start["original_run_uid"] == "scan-1"


@given(
    st.dictionaries(
        st.sampled_from(
            ["uid", "scan_id", "sample", "data_session", "tiled_access_tags", "x.y"]
        ),
        json_values,
    ),
    st.dictionaries(st.text(max_size=6), json_values, max_size=4),
)
def test_whatever_a_stranger_sends_the_start_is_valid(meta, provenance):
    info = RunInfo("r", "s", 1.0, {**provenance, "scan": meta})
    document = DerivedRun(info).start()
    validate([document])
    json.dumps(document[1], allow_nan=False)


def test_keys_that_become_equal_stay_apart_and_depth_is_bounded():
    assert clean({"a.b": 1, "a/b": 2, "a_b": 3}) == {"a_b": 1, "a_b_2": 2, "a_b_3": 3}
    deep: dict = {}
    for _ in range(5000):
        deep = {"d": deep}
    cut, depth = clean({"d": [1, 2.5, math.nan]}), 0
    assert cut == {"d": [1, 2.5, None]}
    shallow: object = clean(json.loads('{"d":' * 30 + "1" + "}" * 30))
    while isinstance(shallow, dict):
        shallow, depth = shallow["d"], depth + 1
    assert depth == MAX_DEPTH


def test_an_event_tells_quality_frames_and_where_the_object_is(info, snapshot):
    documents = dict(whole_run(info(), [snapshot()])[1:3])
    data = documents["event"]["data"]
    assert data["held_out_error"] == 0.25
    assert data["covered"] == 0.75
    assert math.isnan(data["flat_error"])
    assert (data["frames_expected"], data["frames_lost"]) == (100, 2)
    assert (data["object_rows"], data["object_columns"]) == (40, 56)
    assert (data["object_origin_y"], data["object_origin_x"]) == (-1e-6, 2e-6)
    assert (data["converged"], data["health"]) == (False, "")
    assert data["rung"] == "reconstruction"
    descriptor = documents["descriptor"]
    assert descriptor["name"] == "recon"
    assert descriptor["data_keys"]["object_origin_y"]["units"] == "m"
    assert set(descriptor["data_keys"]) == set(data)
    configuration = descriptor["configuration"]["ptystream"]["data"]
    assert configuration["object_pixel"] == [10e-9, 12e-9]


def test_an_event_tells_what_the_engine_knows_of_the_result_and_of_the_data(
    info, snapshot
):
    found = Finding("positions lag", "start them with the first frame", 0.93)
    quality = Quality(resolution_m=2e-8, converged=True)
    shot = snapshot(quality=quality, health=(found,), rung="stxm")
    data = dict(whole_run(info(), [shot])[1:3])["event"]["data"]
    assert (data["resolution_m"], data["converged"]) == (2e-8, True)
    assert data["health"] == "positions lag (93%): start them with the first frame"
    assert data["rung"] == "stxm"


@pytest.mark.parametrize(
    ("reason", "status"),
    [("complete", "success"), ("aborted", "abort"), ("timed out", "fail")],
)
def test_the_stop_says_how_it_ended(info, reason, status):
    _, stop = whole_run(info(), [], RunEnd(reason, "converged", 1.0))[-1]
    assert stop["exit_status"] == status
    assert reason in stop["reason"]
    assert "2 ring_full" in stop["reason"]


def test_the_final_snapshot_is_an_event_before_stop(info, snapshot):
    run = DerivedRun(info())
    documents = [run.start(), *run.stop(snapshot(), FRAMES, END)]
    validate(documents)
    assert [n for n, _ in documents] == ["start", "descriptor", "event", "stop"]


def test_without_bluesky_the_error_names_the_extra():
    code = """
import sys
sys.modules["event_model"] = None
import ptystream.publish.documents_live as live
from ptystream.errors import ConfigError
try:
    live.DocumentSink("127.0.0.1:1")
except ConfigError as error:
    sys.exit(0 if "ptystream[bluesky]" in str(error) else 2)
sys.exit(1)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
