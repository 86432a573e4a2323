import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import DecodeError
from ptystream.publish.runs import RunNote, Told, run_note


def test_notes_of_one_run_add_up():
    first = RunNote("u", start_document={"a": 1, "b": 1}, frames=10)
    more = RunNote("u", scan="s", start_document={"b": 2}, baseline={"c": 3})
    both = first.with_more(more)
    assert both == RunNote("u", "s", {"a": 1, "b": 2}, {"c": 3}, frames=10)


def test_a_request_is_read():
    told = {"energy_ev": {"value": 9000, "origin": "baseline: e"}}
    note = run_note({"uid": "u", "geometry": told})
    assert note.geometry == {"energy_ev": Told(9000.0, "baseline: e")}


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"uid": ""},
        {"uid": "u" * 200},
        {"uid": "u", "start": {}},
        {"uid": "u", "frames": 0},
        {"uid": "u", "geometry": {"energy_ev": 9000}},
        {"uid": "u", "geometry": {"energy_ev": {"value": "9", "origin": "x"}}},
    ],
)
def test_what_is_wrong_is_said(args):
    with pytest.raises(DecodeError, match="run: "):
        run_note(args)


@given(st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text()))
def test_nothing_else_is_raised(args):
    try:
        run_note(args)
    except DecodeError:
        return
