"""Groups of patterns that do not overlap: a sequential engine takes one at a time."""

from collections import deque

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ptystream.errors import ConfigError

OPEN = 32
"""Groups that wait for more members; beyond, the oldest is taken as it is."""


def apart(
    corners: Int[Tensor, "n 2"], *, size: int, group: int, random: torch.Generator
) -> list[Int[Tensor, " g"]]:
    """Return every pattern once, in random order, in groups of at most ``group``.

    No two patches ``size`` wide in a group share a pixel.
    """
    if group < 1:
        raise ConfigError(f"group {group}: expected at least 1 pattern")
    order = torch.randperm(len(corners), generator=random)
    if group == 1:
        return list(order.to(corners.device)[:, None])
    places = corners.cpu().numpy()
    made: list[list[int]] = []
    waiting: deque[list[int]] = deque(maxlen=OPEN)
    for i in order.tolist():
        for members in waiting:
            away = np.abs(places[members] - places[i]).max(1)
            if (away >= size).all():
                members.append(i)
                break
        else:
            members = [i]
            made.append(members)
            waiting.append(members)
        if len(members) == group:
            waiting.remove(members)
    return [torch.tensor(members, device=corners.device) for members in made]
