"""As both papers' code learns: torch's Adam at constant rates."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor
from torch.nn import Parameter

from ptystream.models.field import Box, Field
from ptystream.models.hashgrid import HashGrid
from ptystream.models.siren import Siren


class PublishedLearner:
    """Adam (β 0.9 and 0.999) with a rate for each net: amplitude, phase, or the only.

    Four optimisers for four nets, as the papers have, are one with a rate for each:
    Adam keeps its means parameter by parameter.
    """

    def __init__(
        self, field: Field, *, rate: float, phase_rate: float, by_light: bool
    ) -> None:
        self.field, self.by_light = field, by_light
        groups = [
            {"params": list(net), "lr": rate * share}
            for net, share in _nets(field, phase_rate)
        ]
        self._rates = [group["lr"] for group in groups]
        self._adam = torch.optim.Adam(groups)
        self._window: Tensor | None = None

    def window(self, box: Box) -> Complex[Tensor, "s h w"]:
        """Return the field on the box; its graph is kept for ``learn``."""
        window = self.field.window(box)
        self._window = window
        return window.detach()

    def learn(
        self,
        gradient: Complex[Tensor, "s h w"],
        trust: Float[Tensor, "h w"],
        fade: float,
        finite: Bool[Tensor, ""],
    ) -> None:
        """Carry the gradient through the network and take one step.

        Looking at ``finite`` waits for the device: little beside such a network's step.
        """
        window, self._window = self._window, None
        if window is None:
            raise RuntimeError("learn() without a window() before it")
        if bool(finite):
            window.backward(gradient / gradient.numel())
            for group, rate in zip(self._adam.param_groups, self._rates, strict=True):
                group["lr"] = rate * fade
            self._adam.step()
            self._adam.zero_grad(set_to_none=True)


def _nets(
    field: Field, phase_rate: float
) -> Iterator[tuple[Iterator[Parameter], float]]:
    """Yield each net's parameters, and its rate over the field's."""
    inner = getattr(field, "inner", field)
    if isinstance(inner, Siren | HashGrid) and inner.amplitude is not None:
        yield inner.amplitude.parameters(), 1.0
        yield inner.phase.parameters(), phase_rate
    else:
        yield field.parameters(), 1.0
