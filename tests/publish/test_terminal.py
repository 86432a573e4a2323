"""Previews as coloured characters."""

import io

import numpy as np
import pytest
from rich.console import Console

from ptystream.publish.images import Image, Picture
from ptystream.publish.terminal import HALF, drawn

PIXEL_M = (2e-8, 1e-8)


def picture(phase: np.ndarray, coverage: np.ndarray | None = None) -> Picture:
    layers = {"object_phase": phase, "coverage": coverage}
    return Picture(
        tuple(
            Image(name, values.astype(np.float32), 0.0, 1.0, PIXEL_M, (0.0, 0.0))
            for name, values in layers.items()
            if values is not None
        )
    )


def shades(made) -> list[list[tuple[int, int]]]:
    """Return the brightness of the upper and lower half of each character."""
    text, _ = made
    cells = [
        (s.style.color.get_truecolor()[0], s.style.bgcolor.get_truecolor()[0])
        for s in text.spans
    ]
    width = text.plain.index("\n")
    return [cells[i : i + width] for i in range(0, len(cells), width)]


def test_a_character_is_two_pixels_high():
    phase = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    made = drawn(picture(phase), columns=10, rows=10)
    assert made is not None
    assert made[0].plain == f"{HALF}{HALF}\n" * 2
    assert shades(made) == [[(0, 255), (255, 0)]] * 2


def test_it_fits_the_terminal_and_tells_its_size():
    made = drawn(
        picture(np.random.default_rng(0).random((300, 170))), columns=40, rows=20
    )
    assert made is not None
    lines = made[0].plain.splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 40
    assert made[1] == "phase, 1.7 × 6 µm"


def test_only_what_is_lit_is_drawn():
    coverage = np.zeros((40, 40))
    coverage[10:20, 5:35] = 1
    made = drawn(picture(np.zeros((40, 40)), coverage), columns=99, rows=99)
    assert made is not None
    assert [len(line) for line in made[0].plain.splitlines()] == [30] * 5


@pytest.mark.parametrize("phase", [np.zeros((5, 5)), np.full((5, 5), np.pi)])
def test_an_even_phase_is_no_error(phase):
    assert drawn(picture(phase), columns=9, rows=9) is not None


def test_without_a_phase_there_is_nothing_to_draw():
    assert drawn(Picture(()), columns=9, rows=9) is None


def test_a_phase_that_wraps_is_coloured():
    ramp = np.tile(np.linspace(-np.pi, np.pi, 16), (4, 1))
    made = drawn(picture(ramp), columns=16, rows=2)
    assert made is not None
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(made[0])
    colours = {s.style.color.name for s in made[0].spans}
    assert len(colours) > 10
    assert any(len({name[1:3], name[3:5], name[5:7]}) > 1 for name in colours)
