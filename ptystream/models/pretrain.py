"""Teaching a field an estimate before it meets data."""

from collections.abc import Callable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ptystream.models.field import Box, Field

Loss = Callable[[Tensor, Tensor], Tensor]


def complex_l2(
    made: Complex[Tensor, "s h w"], target: Complex[Tensor, "s h w"]
) -> Float[Tensor, ""]:
    """Half of the mean squared error of Re plus that of Im: blind to phase wraps."""
    return torch.view_as_real(made - target).square().mean()


def pretrain(
    field: Field,
    target: Complex[Tensor, "s h w"],
    box: Box,
    *,
    steps: int = 50,
    lr: float = 1e-3,
    loss: Loss = complex_l2,
    update: Callable[[], None] | None = None,
) -> Float[Tensor, " steps"]:
    """Fit the field to the target on the box; return the loss before each step.

    Regression for coordinate nets; for a ``UNetField`` whose input is the target, an
    auto-encoder (paper B: 50 steps; its code 10⁻³, as here; a SIREN wants 10⁻⁴). The
    optimiser is Adam over ``field.parameters()``; ``update`` replaces it (and ``lr``)
    for fields that keep parameters elsewhere, and must clear the gradients it used.
    """
    field.cover(box)
    step = adam_step(field, lr) if update is None else update
    curve = target.real.new_empty(steps)
    for i in range(steps):
        with torch.enable_grad():
            value = loss(field.window(box), target)
            value.backward()
        step()
        curve[i] = value.detach()
    return curve


def adam_step(field: Field, lr: float) -> Callable[[], None]:
    """Return a step of Adam that clears the gradients."""
    adam = torch.optim.Adam(field.parameters(), lr=lr)

    def step() -> None:
        adam.step()
        adam.zero_grad(set_to_none=True)

    return step
