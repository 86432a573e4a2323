import threading
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.publish.runs import RunNote, Told
from ptystream.service.announced import GRACE_S, KEPT, Announced
from ptystream.service.geometry import documents_of
from ptystream.wire.messages import ScanStart

SCAN = ScanStart("scan-1", "det", shape=(32, 32), meta={"sample": "s", "x": 1})


class Clock:
    def __init__(self):
        self.s = 0.0

    def __call__(self):
        return self.s


def owner(start):
    return start.meta.get("bluesky_uid")


def test_a_scan_gets_what_its_run_says():
    book = Announced()
    told = {"energy_ev": Told(9e3, "baseline: e")}
    document = {"sample": "mine", "scan_id": 4, "plan_name": "p"}
    book.note(RunNote("u", None, document, {"b": 1}, {"c": 2}, told, 50))
    start = book.claim(SCAN)
    assert start.frames_expected == 50
    assert start.meta["sample"] == "mine"
    assert (start.meta["x"], start.meta["scan_id"]) == (1, 4)
    documents = documents_of(start.meta)
    assert documents.start == document
    assert (documents.baseline, documents.configuration) == ({"b": 1}, {"c": 2})
    assert documents.told["energy_ev"] == {"value": 9e3, "origin": "baseline: e"}


def test_without_a_run_a_scan_is_as_it_came():
    assert Announced().claim(SCAN) is SCAN


@pytest.mark.parametrize(
    ("note", "start"),
    [
        (RunNote("scan-1"), SCAN),
        (RunNote("u", scan="scan-1"), SCAN),
        (RunNote("u"), replace(SCAN, meta={"bluesky_uid": "u"})),
        (RunNote("u"), replace(SCAN, meta={"uid": "u"})),
    ],
)
def test_a_name_wins_over_any_order(note, start):
    book = Announced()
    book.note(note)
    book.note(RunNote("newer"), arm=True)
    assert owner(book.claim(start)) == note.uid


def test_an_armed_run_wins_over_one_that_is_only_open():
    book = Announced()
    book.note(RunNote("armed"), arm=True)
    book.note(RunNote("alignment"))
    assert book.armed == "armed"
    assert owner(book.claim(SCAN)) == "armed"
    assert book.armed is None


def test_a_run_that_never_streamed_claims_nothing_later():
    clock = Clock()
    book = Announced(clock)
    for uid in ("aborted", "next"):
        book.note(RunNote(uid), arm=True)
    assert owner(book.claim(SCAN)) == "next"
    clock.s = GRACE_S + 1
    assert owner(book.claim(replace(SCAN, scan="scan-2"))) is None


def test_a_run_that_is_closed_claims_a_scan_for_a_moment_only():
    clock = Clock()
    book = Announced(clock)
    book.note(RunNote("u"))
    book.close("u")
    book.close("never heard of")
    clock.s = GRACE_S + 1
    assert owner(book.claim(SCAN)) is None
    clock.s = GRACE_S - 1
    assert owner(book.claim(SCAN)) == "u"


def test_a_run_waits_for_another_scan_than_this():
    book = Announced()
    book.note(RunNote("u", scan="another"))
    assert owner(book.claim(SCAN)) is None


def test_an_armed_run_can_be_withdrawn_until_it_has_its_scan():
    book = Announced()
    book.note(RunNote("u"), arm=True)
    assert book.withdraw("u")
    assert not book.withdraw("u")
    assert owner(book.claim(SCAN)) is None
    book.note(RunNote("v"), arm=True)
    book.claim(SCAN)
    assert not book.withdraw("v")


def test_a_scan_waits_for_documents_that_are_late():
    book = Announced()
    book.note(RunNote("before"))
    book.claim(replace(SCAN, scan="scan-0"))
    late = threading.Timer(0.2, lambda: book.note(RunNote("u"), arm=True))
    late.start()
    assert owner(book.claim(SCAN, wait_s=10)) == "u"
    late.join()


def test_it_does_not_wait_where_nobody_announces():
    began_s = time.monotonic()
    Announced().claim(SCAN, wait_s=5)
    assert time.monotonic() - began_s < 1


@given(st.lists(st.integers(0, 60), min_size=1, max_size=120))
def test_memory_is_bounded_and_what_is_forgotten_is_counted(numbers):
    book = Announced()
    for number in numbers:
        book.note(RunNote(f"u{number}"))
        book.ended(f"u{number}", {"n": number})
    assert len(book._runs) == min(KEPT, len(set(numbers)))
    assert len(book._ends) <= KEPT
    assert book.forgotten >= len(set(numbers)) - KEPT
    assert book.last == {"n": numbers[-1]}
    assert book.end_of(f"u{numbers[-1]}") == {"n": numbers[-1]}
