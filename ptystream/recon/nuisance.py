"""What is learned of each exposure beside object and probe: its place, its light."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import Parameter

from ptystream.physics.positions import Positions
from ptystream.recon.optim import BETA_MEAN, BETA_SQUARE, FLOOR, Adam
from ptystream.recon.options import NuisanceOptions

GAUGE = 10
"""Steps between two times that the gauge is fixed; it drifts by little in each."""


class RowAdam:
    """Adam on the rows of one batch: those of other exposures stand still."""

    def __init__(self, values: Parameter) -> None:
        self.values = values
        self.mean = torch.zeros_like(values)
        self.square = torch.zeros_like(values)
        self.age = values.new_zeros(len(values))

    @torch.no_grad()
    def update(
        self, rows: Int[Tensor, " b"], rate: float, finite: Bool[Tensor, ""]
    ) -> None:
        """Take one step with these rows; nothing changes where ``finite`` is false."""
        if self.values.grad is None:
            return
        gradient = torch.where(finite, self.values.grad[rows], 0)
        self.values.grad = None
        self.age[rows] += finite
        mean, square = self.mean[rows], self.square[rows]
        mean.lerp_(gradient, (1 - BETA_MEAN) * finite)
        square.lerp_(gradient.square(), (1 - BETA_SQUARE) * finite)
        self.mean[rows], self.square[rows] = mean, square
        age = self.age[rows].clamp_min(1).reshape(-1, *[1] * (gradient.ndim - 1))
        scale = (square / (1 - BETA_SQUARE**age)).sqrt_().add_(FLOOR)
        step = mean / (1 - BETA_MEAN**age) / scale
        self.values[rows] -= rate * step * finite

    @torch.no_grad()
    def forget(self, row: int) -> None:
        """Begin anew with one row."""
        for part in (self.values, self.mean, self.square, self.age):
            part[row] = 0


class Nuisance:
    """Corrections to the exposures of a store, by slot, and one factor on all light.

    ``learn`` is for frames that object and probe learn from as well; held-out ones are
    only ``fit``, so that a wrong place is not taken for a wrong object. The gauge: the
    moves of the frames learned from have no mean and nothing affine in them, and their
    brightness has a mean of 1.
    """

    def __init__(
        self, options: NuisanceOptions, frames: int, device: torch.device
    ) -> None:
        self.options = options
        self.positions = Positions(frames).to(device)
        self.log_brightness = Parameter(torch.zeros(frames, device=device))
        self.log_scale = Parameter(torch.zeros((), device=device))
        self._lever_px = torch.zeros(frames, 2, device=device)
        self._host_lever_px = torch.zeros(frames, 2)  # the same: reading that waits
        self._used = np.zeros(frames, bool)
        self._first_px: np.ndarray | None = None
        self._middle_px = torch.zeros(2, device=device)
        self._extent_px = 1.0
        self._offsets = RowAdam(self.positions.offset_px)
        self._lights = RowAdam(self.log_brightness)
        self._affine = Adam([self.positions.affine])
        self._scale = Adam([self.log_scale])
        self._steps = 0

    def place(self, slot: int, position_px: np.ndarray, *, trained: bool) -> None:
        """Note where the exposure in a slot was taken, forgetting the slot's last."""
        if self._first_px is None:
            self._first_px = position_px.copy()
        self._host_lever_px[slot] = torch.from_numpy(position_px - self._first_px)
        self._lever_px[slot].copy_(self._host_lever_px[slot], non_blocking=True)
        self._used[slot] = trained
        self._offsets.forget(slot)
        self._lights.forget(slot)

    def rows(self) -> dict[str, Tensor]:
        """Return all that is learned of each slot, with its optimisers' memory."""
        return {
            f"{name}_{part}": getattr(adam, part)
            for name, adam in (("offset", self._offsets), ("light", self._lights))
            for part in ("values", "mean", "square", "age")
        }

    @torch.no_grad()
    def begin(self, affine: Float[Tensor, "4"] | None) -> None:
        """Begin with these scales, shear and rotation; None, or none learned: none."""
        learned = self.options.positions in ("affine", "both")
        if affine is None or not learned:
            self.positions.affine.zero_()
        else:
            self.positions.affine.copy_(affine)

    def moves(self, frame: Int[Tensor, " b"]) -> Float[Tensor, "b 2"]:
        """Return how far each exposure is from its given place, in object pixels."""
        lever = self._lever_px[frame] - self._middle_px
        bound = self.options.position_bound_px
        return (self.positions(frame, lever) - lever).clamp(-bound, bound)

    def brightness(self, frame: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the light of each exposure over that of object and probe."""
        return (self.log_brightness[frame] + self.log_scale).exp()

    def learn(
        self, frame: Int[Tensor, " b"], fade: float, finite: Bool[Tensor, ""]
    ) -> None:
        """Take a step with what the options let learn; the rest is dropped."""
        self._steps += 1
        if self._awake and self.options.positions in ("affine", "both"):
            rate = self.options.position_rate_px * fade / self._extent_px
            self._affine.update(rate, finite)
        if self.options.scale:
            self._scale.update(self.options.scale_rate * fade, finite)
        self.fit(frame, fade, finite)
        if self._steps % GAUGE == 1:
            self._fix_gauge()

    def fit(
        self, frame: Int[Tensor, " b"], fade: float, finite: Bool[Tensor, ""]
    ) -> None:
        """Take a step with the frames' own places and brightness alone."""
        o = self.options
        if self._awake and o.positions in ("frames", "both"):
            self._offsets.update(frame, o.position_rate_px * fade, finite)
        if self._awake and o.intensity:
            self._lights.update(frame, o.intensity_rate * fade, finite)
        self.forget_gradients()

    def forget_gradients(self) -> None:
        """Drop what the last gradients said."""
        for part in (*self.positions.parameters(), self.log_brightness, self.log_scale):
            part.grad = None

    @property
    def _awake(self) -> bool:
        """Whether it is time."""
        return self._steps > self.options.after_steps

    @torch.no_grad()
    def _fix_gauge(self) -> None:
        """Take out what only moves or scales the object."""
        slots = torch.from_numpy(np.flatnonzero(self._used))
        if not len(slots):
            return
        lever = self._host_lever_px[slots]
        middle = lever.mean(0)
        lever = lever - middle
        self._middle_px = middle.to(self._lever_px, non_blocking=True)
        self._extent_px = max(1.0, float(lever.abs().max()))
        used = slots.to(self._lever_px.device, non_blocking=True)
        if self.options.positions in ("frames", "both"):
            self.positions.fix_gauge(used, lever)
        self.log_brightness[used] -= self.log_brightness[used].mean()
