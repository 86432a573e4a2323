"""What a problem refuses."""

import dataclasses
from typing import Any

import pytest
import torch

from ptystream.models.field import Box
from ptystream.recon.classical.problem import Problem
from tests.recon.classical.phantom import tiny


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"amplitude": torch.ones(3, 4, 5)}, "amplitude"),
        ({"amplitude": torch.ones(0, 4, 4)}, "no patterns"),
        ({"corner_px": torch.zeros(2, 2)}, "corner_px"),
        ({"corner_px": torch.full((3, 2), torch.nan)}, "not finite"),
        ({"probe": torch.full((1, 4, 4), torch.nan + 0j)}, "not finite"),
        ({"probe": torch.ones(1, 5, 5, dtype=torch.complex64)}, "probe"),
        ({"object": torch.ones(7, 7, dtype=torch.complex64)}, "object"),
        ({"box": Box(0, 0, 7, 7)}, "outside"),
        ({"box": Box(1, 0, 7, 8)}, "outside"),
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        dataclasses.replace(tiny().problem(), **wrong)


def test_without_a_box_the_canvas_is_what_the_patches_need() -> None:
    scan = tiny()
    problem = Problem(
        amplitude=torch.ones(3, 4, 4),
        corner_px=torch.tensor([[-5.4, 2.0], [0.0, 0.6], [3.0, 9.0]]),
        probe=torch.from_numpy(scan.probe),
    )
    assert problem.canvas == Box(-5, 1, 12, 12)
