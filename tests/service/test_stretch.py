import numpy as np
import pytest

from ptystream.config import load
from ptystream.errors import ConfigError
from ptystream.ingest.documents import Found, read_document
from ptystream.service.stretch import Stretch
from ptystream.wire.messages import Exposure, Frame

FRAME = Frame("scan", 0, np.zeros((2, 2), np.uint16))
EXPOSURE = Exposure(FRAME, (1e-6, 2e-6), (1.5e-6, 2.5e-6), (2e-6, 3e-6), 7.0)
AXES = (
    "positions.y={column='Y', scale_m=1e-10}",
    "positions.x={column='X', scale_m=-2e-10, offset_m=1e-6}",
)


def stretched(found, *flags):
    told = {name: Found(value, "start document") for name, value in found.items()}
    return Stretch(load(environment={}, flags=flags), told)(EXPOSURE)


def test_a_documents_scale_takes_the_settings_place():
    moved = stretched({"y_scale_m": 0.9e-10}, *AXES)
    assert moved.mean_m == pytest.approx((1.35e-6, 2.5e-6))
    assert moved.start_m == pytest.approx((0.9e-6, 2e-6))
    assert moved.end_m == pytest.approx((1.8e-6, 3e-6))
    assert (moved.frame, moved.monitor) == (FRAME, 7.0)


def test_directions_and_offsets_stay_the_settings():
    moved = stretched({"x_scale_m": 3e-10}, *AXES)
    assert moved.mean_m == pytest.approx((1.5e-6, 1e-6 + 1.5 * 1.5e-6))


@pytest.mark.parametrize(
    ("found", "flags"),
    [
        ({}, AXES),
        ({"y_scale_m": 3e-10, "x_scale_m": 3e-10}, ()),
        ({"y_scale_m": 3e-10}, ("positions.y.column='Y'", "positions.x.column='X'")),
    ],
)
def test_where_nothing_was_scaled_here_nothing_moves(found, flags):
    assert stretched(found, *flags) is EXPOSURE


def test_a_scale_of_nothing_is_refused():
    profile = load(
        environment={}, flags=["geometry.start_document.x_scale_m.keys=['x']"]
    )
    with pytest.raises(ConfigError, match="x is 0, expected x_scale_m other than 0"):
        read_document({"x": 0}, profile.geometry.start_document, "start document")
