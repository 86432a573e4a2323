import math

import event_model
import orjson
import pytest

from ptystream.publish.documents import DerivedRun
from ptystream.publish.documents_schema import (
    CONFIGURATION,
    COPIED,
    EVENT,
    SCHEMA_VERSION,
    START,
    STOP,
    VERSION_KEY,
    loads,
    markdown,
)
from ptystream.publish.sink import FrameCounts, RunEnd

FRAMES = FrameCounts(expected=100, received=40, paired=38, lost={"ring_full": 2})
META = {
    "uid": "raw-uid",
    "scan_id": 4711,
    "data_session": "pass-1",
    "cycle": "2026-3",
    "proposal": {"proposal_id": "1"},
    "sample": "siemens",
    "beamline_id": "HXN",
    "tiled_access_tags": ["pass-1"],
}
JSON_TYPES = {
    "string": str,
    "number": (int, float),
    "integer": int,
    "object": dict,
    "array": list,
    "boolean": bool,
}


@pytest.fixture
def documents(info, snapshot):
    """Return a whole run by name, as a consumer behind the bus gets it."""
    run = DerivedRun(info(**META))
    made = [run.start(), *run.update(snapshot(), FRAMES)]
    made += run.stop(None, FRAMES, RunEnd("complete", "converged", 1.0))
    for name, document in made:
        kind = event_model.DocumentNames[name]
        event_model.schema_validators[kind].validate(document)
    return {name: orjson.loads(orjson.dumps(document)) for name, document in made}


def fits(value, key):
    kinds = [JSON_TYPES[kind] for kind in key.dtype.split(" or ")]
    return any(isinstance(value, kind) for kind in kinds)


def test_the_start_has_the_tables_keys_and_no_others(documents):
    start = documents["start"]
    assert set(start) == {key.name for key in (*START, *COPIED)}
    for key in (*START, *COPIED):
        assert fits(start[key.name], key), key.name


def test_an_unknown_scan_gives_the_tables_fixed_keys(info):
    _, start = DerivedRun(info()).start()
    assert set(start) == {key.name for key in START}


def test_the_event_holds_what_the_table_says(documents):
    descriptor, data = documents["descriptor"], documents["event"]["data"]
    assert list(descriptor["data_keys"]) == [key.name for key in EVENT]
    for key in EVENT:
        value = data[key.name]
        assert value is None or fits(value, key), key.name
        assert list(key.shape) == ([len(value)] if key.shape else [])
        assert descriptor["data_keys"][key.name]["dtype_numpy"] == key.numpy


def test_the_configuration_holds_what_the_table_says(documents):
    configuration = documents["descriptor"]["configuration"]["ptystream"]
    assert set(configuration["data"]) == {key.name for key in CONFIGURATION}
    for key in CONFIGURATION:
        assert configuration["data_keys"][key.name]["shape"] == list(key.shape)
        assert len(configuration["data"][key.name]) == key.shape[0]


def test_start_descriptor_and_stop_carry_the_version(documents):
    for name in ("start", "descriptor", "stop"):
        assert documents[name][VERSION_KEY] == SCHEMA_VERSION
    assert {key.name for key in STOP} <= set(documents["stop"])


def test_the_markdown_names_every_key_once_a_document():
    lines = markdown().splitlines()
    keys = (*START, *COPIED, *CONFIGURATION, *EVENT, *STOP)
    assert len(lines) == 2 + len(keys) + 1  # and the descriptor's version
    assert all(line.count("|") == 6 for line in lines)
    for key in keys:
        assert any(f"| `{key.name}` |" in line for line in lines), key.name
    assert "| event | `resolution_m` | number `<f8` | m |" in markdown()
    names = [line.split("`")[1] for line in lines if line.startswith("| event |")]
    assert names == [key.name for key in EVENT]


def test_what_is_null_on_the_bus_is_nan_again():
    decoded = loads(b'{"data": {"a": null, "b": 1}, "reason": null}')
    assert math.isnan(decoded["data"]["a"])
    assert decoded["data"]["b"] == 1
    assert decoded["reason"] is None
    assert loads(b"[1]") == [1]
