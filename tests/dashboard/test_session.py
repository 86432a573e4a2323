"""What is sent to one browser."""

from dataclasses import replace

import pytest

pytest.importorskip("bokeh", reason="bokeh is not installed")

from bokeh.document import Document

from ptystream.dashboard.feed import Heard
from ptystream.dashboard.scene import scene
from ptystream.dashboard.session import SHOWN, Session
from tests.dashboard.conftest import a_picture


def columns(session, name):
    """Return how long each column of a map is."""
    return {k: len(v) for k, v in session.maps[name].source.data.items()}


@pytest.mark.parametrize("layer", ["confidence", "coverage", "object_phase"])
def test_a_picture_that_lacks_a_layer_leaves_that_map_empty(layer):
    picture = a_picture()
    kept = tuple(image for image in picture.images if image.name != layer)
    heard = Heard(picture=replace(picture, images=kept), seen=1)
    session = Session(lambda: heard, lambda heard: scene(heard.picture))
    session.fill(Document(), boot="1")
    for name, shows in SHOWN.items():
        rows = 0 if shows == layer else 1
        assert set(columns(session, name).values()) == {rows}, name


def test_every_column_of_the_probe_and_the_pattern_has_a_row():
    heard = Heard(picture=a_picture(), seen=1)
    session = Session(lambda: heard, lambda heard: scene(heard.picture))
    session.fill(Document(), boot="1")
    for chart in (session.probe, session.pattern):
        assert {len(v) for v in chart.source.data.values()} == {1}
