"""From pixels to a network: it is taught the estimate, then takes its place."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ptystream.models.field import Box
from ptystream.models.multires import MultiRes
from ptystream.models.pixels import Pixels
from ptystream.recon.hold import Held
from ptystream.recon.learners import Learner

LESSON_PX = 192
"""A lesson is a square of at most so many pixels, drawn anew each step: its cost and
memory don't follow the canvas. A U-Net that makes the whole object sees all of it."""


class Pupil:
    """A network that learns what the pixels hold, which may still change."""

    def __init__(self, network: Held, teacher: Learner, *, seed: int = 0) -> None:
        self._network, self._teacher = network, teacher
        self._rng = np.random.default_rng(seed)

    @torch.no_grad()
    def show(self, pixels: Pixels, box: Box) -> None:
        """Give the pixels on the box to a U-Net, whose input they are."""
        self._network.see(box, pixels.window(box))

    def lesson(self, pixels: Pixels, box: Box) -> Float[Tensor, ""]:
        """Come nearer to the pixels on the box, or a part of it; return the error.

        A U-Net is given them as its input: it becomes an auto-encoder of them.
        """
        self.show(pixels, box)
        with torch.no_grad():
            part = box if self._network.whole else self._part(box)
            target = self._network.hold(pixels.window(part))  # all it can become
        self._network.cover(box)
        wrong = self._teacher.window(part) - target
        trust = torch.ones_like(wrong[0].real)
        finite = torch.isfinite(wrong.real).all() & torch.isfinite(wrong.imag).all()
        self._teacher.learn(wrong, trust, 1.0, finite)
        return wrong.abs().square().mean()

    def graduate(self) -> Held:
        """Return the network, its optimiser's memory gone: errors are of a new kind."""
        if isinstance(self._network.inner, MultiRes):
            self._network.inner.forget_updates()
        return self._network

    def _part(self, box: Box) -> Box:
        """Draw a part of the box."""
        h, w = min(box.h, LESSON_PX), min(box.w, LESSON_PX)
        y = box.y + int(self._rng.integers(box.h - h + 1))
        x = box.x + int(self._rng.integers(box.w - w + 1))
        return Box(y, x, h, w)
