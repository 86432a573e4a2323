"""How two short reconstructions predict the same held-out exposures."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ptystream.recon.hypotheses import Hypothesis

TIED = 2.0
"""Standard errors within which two hypotheses are not told apart."""
MOST_NOISE = 0.9
"""Noise is at most this part of the smaller error: counts need not be photons."""


@dataclass(frozen=True, slots=True)
class Misses:
    """Of each held-out exposure: Σ(a - A)², that of an empty object, and of noise."""

    error: Float[np.ndarray, " h"]
    flat: Float[np.ndarray, " h"]
    noise: Float[np.ndarray, " h"]


@dataclass(frozen=True, slots=True)
class Score:
    """How a hypothesis predicts held-out exposures beside positions as told.

    ``gain`` is the part of the error, but for noise, that goes away with it;
    ``sigmas`` that, or the error's logarithm by exposure, over its standard error;
    ``sure`` the share of exposures that fit better. ``left`` is what stays of an empty
    object's error: below 1 it explains anything. ``error`` is by exposure.
    """

    hypothesis: Hypothesis
    gain: float
    sigmas: float
    sure: float
    left: float
    error: Float[np.ndarray, " h"]


def score(hypothesis: Hypothesis, told: Misses, tried: Misses) -> Score:
    """Compare a hypothesis with positions as told, on the same exposures."""
    better = told.error - tried.error
    least = min(told.error.mean(), tried.error.mean())
    noise = min(tried.noise.mean(), MOST_NOISE * least)
    return Score(
        hypothesis,
        gain=float(better.mean() / (told.error.mean() - noise)),
        sigmas=max(_sigmas(better), _sigmas(np.log(told.error / tried.error))),
        sure=float((better > 0).mean()),
        left=float((tried.error.mean() - noise) / (tried.flat.mean() - noise)),
        error=tried.error,
    )


def tied(one: Score, other: Score) -> bool:
    """Tell whether held-out exposures can't tell two hypotheses apart."""
    if one.error.shape != other.error.shape:
        return False
    return abs(_sigmas(other.error - one.error)) < TIED


def _sigmas(values: Float[np.ndarray, " h"]) -> float:
    """Return a mean over its standard error; 0 of all the same."""
    scatter = values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean() / scatter) if scatter > 0 else 0.0
