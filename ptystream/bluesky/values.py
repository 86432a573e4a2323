"""What a status says of one run, as plain numbers: pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

NAN = float("nan")
ENDED = ("refining", "done")
"""Phases of a scan of which no frame is awaited any more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What counts as healthy data: seconds of lag, share of frames lost, no finding.

    A finding of the service's data health counts if it is at least so ``sure``, and
    among these ``faults``, by name; None: all.
    """

    max_lag_s: float = 5.0
    max_lost_share: float = 0.05
    sure: float = 0.5
    faults: frozenset[str] | None = None

    def heeded(self, findings: Sequence[Mapping[str, Any]]) -> str:
        """Return the faults found that count, as text; empty if none do."""
        return "; ".join(
            str(found["fault"])
            for found in findings
            if found["sure"] >= self.sure
            and (self.faults is None or found["fault"] in self.faults)
        )


@dataclass(frozen=True, slots=True)
class Values:
    """One run as the service sees it; NaN, 0 and empty where it knows nothing yet.

    ``held_out_error`` and ``coverage`` are those of the service's quality, smaller and
    larger being better; ``converged`` says that frames of the same area no longer help;
    ``lag_s`` is from a frame's arrival until it can be learned. ``health`` names the
    faults found in the data, ``complaint`` says what exceeds the limits given.
    """

    held_out_error: float = NAN
    resolution_m: float = NAN
    coverage: float = 0.0
    converged: bool = False
    frames: int = 0
    frames_lost: int = 0
    lag_s: float = NAN
    step: int = 0
    derived_uid: str = ""
    phase: str = "waiting"
    health: str = ""
    complaint: str = ""
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return them by name."""
        return asdict(self)


def values_of(status: Mapping[str, Any], uid: str, limits: Limits) -> Values:
    """Return what a status says of the run ``uid``; of any run that is open if empty.

    A status of another run says nothing: it must never end this one.
    """
    if status.get("run") and (not uid or status.get("raw_uid") == uid):
        return _open(status, limits)
    last = status.get("last") or {}
    if last and (not uid or last.get("raw_uid") == uid):
        return _over(last)
    return Values()


def is_mine(status: Mapping[str, Any], uid: str) -> bool:
    """Tell whether the service has a scan of this run, open or over."""
    last = status.get("last") or {}
    return uid in (status.get("raw_uid"), last.get("raw_uid"))


def _open(status: Mapping[str, Any], limits: Limits) -> Values:
    frames, quality = status.get("frames") or {}, status.get("quality") or {}
    received, lost = frames.get("received") or 0, _lost(frames)
    lag_s = _number(status.get("lag_s"))
    late = f"frames lag by {lag_s:.3g} s" if lag_s > limits.max_lag_s else ""
    many = lost > limits.max_lost_share * (received + lost)
    few = f"{lost} of {received + lost} frames lost" if many else ""
    wrong = (late, few, limits.heeded(_findings(status)))
    return Values(
        **_quality(quality),
        frames=received,
        frames_lost=lost,
        lag_s=lag_s,
        step=status.get("step") or 0,
        derived_uid=str(status.get("run") or ""),
        phase=str(status.get("state")),
        health=_named(_findings(status)),
        complaint="; ".join(part for part in wrong if part),
    )


def _over(last: Mapping[str, Any]) -> Values:
    frames = last.get("frames") or {}
    return Values(
        **_quality(last.get("quality") or {}),
        frames=frames.get("received") or 0,
        frames_lost=_lost(frames),
        derived_uid=str(last.get("run") or ""),
        phase="error" if last.get("reason") == "error" else "done",
        health=_named(_findings(last)),
        complaint="the run was given up" if last.get("reason") == "error" else "",
        reason=str(last.get("refined") or ""),
    )


def _quality(quality: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "held_out_error": _number(quality.get("held_out_error")),
        "resolution_m": _number(quality.get("resolution_m")),
        "coverage": float(quality.get("covered") or 0.0),
        "converged": bool(quality.get("converged")),
    }


def _findings(told: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return told.get("health") or ()


def _named(findings: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(f"{found['fault']} ({found['sure']:.0%})" for found in findings)


def _lost(frames: Mapping[str, Any]) -> int:
    return sum((frames.get("lost") or {}).values())


def _number(value: Any) -> float:
    return NAN if value is None else float(value)
