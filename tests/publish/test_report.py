"""The page about a run."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from ptystream.publish.history import History
from ptystream.publish.report import MAX_ROWS, MAX_TEXT, Ended, page
from ptystream.publish.sink import FrameCounts, RunEnd
from ptystream.recon.findings import Finding
from ptystream.recon.metrics import Frc

END = RunEnd("complete", "held-out quality stopped improving", 1.26)
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"


class Tags(HTMLParser):
    """Counts elements; fails on one that is not closed."""

    EMPTY = frozenset({"meta", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in self.EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag


@pytest.fixture
def ended(snapshot, info):
    def make(**given) -> Ended:
        history, shown = History(), given.pop("shown", snapshot())
        for i in range(5):
            history.add(float(i), shown, FrameCounts(10, 2 * i, i, {}))
        frames = FrameCounts(144, 140, 138, {"late": 2, "dark": 0})
        meta = given.pop("meta", {})
        values = {
            "info": info(**meta),
            "snapshot": shown,
            "frames": frames,
            "end": END,
            "history": history.columns(),
            "picture": b"\x89PNG",
        }
        return Ended(**{**values, **given})

    return make


def text_of(html: str) -> str:
    return re.sub(
        r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.S)
    )


def test_it_holds_what_a_scientist_asks_for(ended):
    text = text_of(page(ended()))
    for said in (
        "complete : refined until held-out quality stopped improving, 1.3 s after",
        "held-out error 0.25",
        "expected 144",
        "lost: late 2",
        "covered 75%",
        "resolution not known",
        "wavelength_m 1e-10",
        "do not contradict",
    ):
        assert said in text, said
    assert "lost: dark" not in text


def test_it_is_one_whole_page_that_loads_nothing(ended):
    html = page(ended())
    tags = Tags(html).seen
    assert tags.count("img") == 2
    assert not {"script", "link", "iframe"} & set(tags)
    assert set(re.findall(r'src="(.{5})', html)) == {"data:"}


def test_a_finding_is_told_with_what_to_do(ended, snapshot):
    finding = Finding("positions lag", "two frames late: set the delay", 0.9)
    text = text_of(page(ended(shown=snapshot(health=(finding,)))))
    assert "positions lag (90 % sure): two frames late: set the delay" in text
    assert "do not contradict" not in text


def test_the_resolution_has_its_curve(ended, snapshot):
    frc = Frc(np.arange(1.0, 9) * 1e6, np.linspace(1, 0, 8), np.full(8, 50.0))
    without, drawn = (page(ended(shown=snapshot(frc=f))) for f in (None, frc))
    assert len(drawn) > 1.1 * len(without)


def test_a_scans_own_text_is_never_html(ended):
    meta = {HOSTILE: HOSTILE, "sample": HOSTILE}
    html = page(ended(meta=meta, end=RunEnd(HOSTILE, HOSTILE, 0.0)))
    assert "script" not in Tags(html).seen
    assert "onerror=alert(1)&gt;" in html


def test_long_and_many_values_are_cut(ended):
    meta = {f"key{i}": "x" * 1000 for i in range(3 * MAX_ROWS)}
    html = page(ended(meta=meta))
    assert f"key{MAX_ROWS - 1}" in html
    assert f"key{MAX_ROWS}<" not in html
    assert "x" * (MAX_TEXT + 1) not in html
