"""What a finding says: what was seen, and what to set."""

from ptystream.recon.health_score import Score
from ptystream.recon.hypotheses import Hypothesis, Matrix

TURNS: dict[Matrix, str] = {
    ((0, 1), (1, 0)): "y and x swapped: swap positions.y and positions.x, "
    "or set detector.preprocess.transpose",
    ((0, -1), (-1, 0)): "y and x swapped and both mirrored: swap positions.y and "
    "positions.x with -scale_m, or set preprocess.transpose, flip_y, flip_x",
    ((-1, 0), (0, 1)): "y mirrored: set -positions.y.scale_m, "
    "or detector.preprocess.flip_y",
    ((1, 0), (0, -1)): "x mirrored: set -positions.x.scale_m, "
    "or detector.preprocess.flip_x",
    ((0, -1), (1, 0)): "positions turned by 90°: swap positions.y and positions.x and "
    "mirror y, or change detector.preprocess.quarter_turns",
    ((0, 1), (-1, 0)): "positions turned by 90°: swap positions.y and positions.x and "
    "mirror x, or change detector.preprocess.quarter_turns",
    ((-1, 0), (0, -1)): "y and x mirrored: set -scale_m of both, or preprocess.flip_y "
    "and flip_x; or the first probe's defocus has the wrong sign",
}
"""What to set for each orientation. What is set already is to be turned over."""


def detail(best: Score, rivals: list[Score]) -> str:
    """Return a sentence with the figures, and what else would do as well."""
    said = f"frames fit {best.gain:.0%} better with {remedy(best.hypothesis)}"
    others = [remedy(r.hypothesis) for r in rivals if not _alike(best, r)]
    return said + "".join(f"; or as well: {o}" for o in dict.fromkeys(others))


def remedy(hypothesis: Hypothesis) -> str:
    """Return what is other than told, and what to set."""
    if hypothesis.lag:
        return _lag(hypothesis.lag)
    if hypothesis.rate != 1:
        by = f"{1 / hypothesis.rate:.3g}"
        return f"positions {by} times as fast: multiply positions.per_frame by {by}"
    if hypothesis.matrix in TURNS:
        return TURNS[hypothesis.matrix]
    return _scale(*hypothesis.scale)


def _alike(best: Score, rival: Score) -> bool:
    """Tell whether both are scales of the same axes: the better one's figure does."""
    one, other = best.hypothesis, rival.hypothesis
    if not one.fault == other.fault == "wrong scale":
        return False
    return all(
        (a == 1) == (b == 1) for a, b in zip(one.scale, other.scale, strict=True)
    )


def _lag(lag: int) -> str:
    """Return the words for positions of later (> 0) or earlier frames."""
    n = abs(lag)
    side, change = (
        ("later", f"add {n} to") if lag > 0 else ("earlier", f"take {n} from")
    )
    return (
        f"positions of {n} frames {side}: {change} positions.lag, or start the "
        f"encoders' capture {n} triggers {side}"
    )


def _scale(y: float, x: float) -> str:
    """Return the words for lengths that are to be multiplied."""
    if y == x:
        return (
            f"positions {y:.3g} times as far apart: multiply both scale_m, "
            f"or divide geometry.distance_m, by {y:.3g}"
        )
    axis, by = ("x", x) if y == 1 else ("y", y)
    return (
        f"positions {by:.3g} times as far apart in {axis}: multiply "
        f"positions.{axis}.scale_m by {by:.3g}"
    )
