"""As both papers' code learns: torch's Adam at constant rates, on plain gradients."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor
from torch.nn import Parameter

from ptystream.models.field import Box, Field
from ptystream.models.hashgrid import HashGrid
from ptystream.models.siren import Siren
from ptystream.recon.optics import Gradients, Optics, Shots


class PublishedLearner:
    """Adam (β 0.9 and 0.999) with a rate for each net: amplitude, phase, or the only.

    Four optimisers for four nets, as the papers have, are one with a rate for each:
    Adam keeps its means parameter by parameter.
    """

    def __init__(self, field: Field, *, rate: float, phase_rate: float) -> None:
        self.field = field
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


class PlainOptics:
    """An experiment that does not say how much light its gradients were measured in.

    So the engine divides by nothing: for networks, whose optimiser sets the step.
    """

    def __init__(self, inner: Optics) -> None:
        self.inner = inner

    def gradients(
        self,
        window: Complex[Tensor, "s h w"],
        probe: Complex[Tensor, "m k k"],
        shots: Shots,
        *,
        probe_too: bool,
    ) -> Gradients:
        """Return loss and gradients, the light 1 everywhere."""
        got = self.inner.gradients(window, probe, shots, probe_too=probe_too)
        return got._replace(illumination=torch.ones_like(got.illumination))

    def predict(
        self,
        window: Complex[Tensor, "s h w"],
        probe: Complex[Tensor, "m k k"],
        shots: Shots,
    ) -> Float[Tensor, "b k k"]:
        """Return the amplitudes that the detector should see."""
        return self.inner.predict(window, probe, shots)

    def learn(self, fade: float, finite: Bool[Tensor, ""]) -> None:
        """Learn what the experiment learns of itself."""
        self.inner.learn(fade, finite)

    def fit(
        self,
        window: Complex[Tensor, "s h w"],
        probe: Complex[Tensor, "m k k"],
        shots: Shots,
        fade: float,
    ) -> None:
        """Fit what is each exposure's own."""
        self.inner.fit(window, probe, shots, fade)
