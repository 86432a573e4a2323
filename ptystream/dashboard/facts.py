"""A status message in words: what the page says, and in which tone. Pure."""

import math
from collections.abc import Mapping
from typing import Any, Literal

UNKNOWN = "not known yet"
PLANCK_EV_M = 1.23984198e-6
KEPT = 32
"""Past scans shown."""

Tone = Literal["plain", "good", "warn", "bad", "faint"]
Row = dict[str, str]
_STATES: Mapping[str, tuple[str, Tone]] = {
    "idle": ("idle: waiting for a scan", "plain"),
    "waiting": ("a scan began: waiting for its first frames", "plain"),
    "live": ("live", "good"),
    "refining": ("refining: no frame comes any more", "good"),
    "done": ("done", "plain"),
    "held": ("held: frames are taken in, nothing is learned", "warn"),
}
_PREFIXES = ((1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"))


def row(name: str, value: str, tone: Tone = "plain", note: str | None = None) -> Row:
    """Return one line of the page."""
    return {"name": name, "value": value, "tone": tone, "note": note or ""}


def number(value: object, digits: int = 3) -> str:
    """Return a number in few digits, or that it is not known."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return UNKNOWN
    return f"{value:.{digits}g}" if math.isfinite(value) else UNKNOWN


def quantity(value: object, unit: str) -> str:
    """Return a number with its unit, prefixed so that it is 1 to 1000."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return UNKNOWN
    if not math.isfinite(value):
        return UNKNOWN
    size = abs(value)
    fits = [(p, n) for p, n in _PREFIXES if size >= p * 0.9995]
    per, prefix = fits[0] if fits else _PREFIXES[-1]
    return f"{value / per:.4g} {prefix}{unit}"


def state(status: Mapping[str, Any]) -> Row:
    """Return what the service does."""
    name = str(status.get("state", ""))
    words, tone = _STATES.get(name, (name or UNKNOWN, "plain"))
    detail = str(status.get("detail") or "")
    return row("State", words, "warn" if detail else tone, detail)


def progress(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return frames received and expected, the latter None if nobody said."""
    frames = status.get("frames") or {}
    return {"received": frames.get("received", 0), "expected": frames.get("expected")}


def quality(status: Mapping[str, Any]) -> list[Row]:
    """Return how good it is."""
    q = status.get("quality") or {}
    error, flat = q.get("held_out_error"), q.get("flat_error")
    better = error is not None and flat is not None and error < 0.5 * flat
    settled = {True: "yes", False: "not yet", None: UNKNOWN}[q.get("converged")]
    return [
        row("Held-out error", number(error), "good" if better else "plain"),
        row("of an empty object", number(flat)),
        row("of photon noise alone", number(q.get("noise_error"))),
        row("Resolution (FRC)", quantity(q.get("resolution_m"), "m")),
        row("Converged", settled, "good" if q.get("converged") else "plain"),
        row("Scanned area covered", f"{q.get('covered') or 0:.0%}"),
        row("Probe", "learned" if q.get("probe_released") else "held as it began"),
    ]


def flow(status: Mapping[str, Any], frames_per_s: float) -> list[Row]:
    """Return how the data flow."""
    frames = status.get("frames") or {}
    lost = {k: v for k, v in (frames.get("lost") or {}).items() if v}
    total = sum(lost.values())
    reasons = ", ".join(f"{v} {k}" for k, v in sorted(lost.items()))
    ages = status.get("message_age_s") or {}
    return [
        row("Frames", _frames(frames)),
        row("Frame rate", _rate(frames_per_s)),
        row("Lost", str(total), "bad" if total else "good", reasons),
        row("Lag, arrival to store", quantity(status.get("lag_s"), "s")),
        row("Engine", f"{status.get('step', 0)} steps"),
        row("Engine rate", _rate(status.get("steps_per_s"))),
        row("Detector spoke", _ago(ages.get("det"))),
        row("Encoders spoke", _ago(ages.get("pos"))),
        *_sinks(status),
    ]


def health(findings: object) -> list[Row]:
    """Return the verdict on the data: each finding, or that none was made."""
    if not isinstance(findings, list):
        return [row("Data health", UNKNOWN, "faint")]
    rows = [
        row(str(f.get("fault", "")), _sure(f.get("sure")), "bad", str(f.get("detail")))
        for f in findings[:8]
        if isinstance(f, Mapping)
    ]
    return rows or [row("Data health", "no fault found so far", "good")]


def geometry(values: object, pixel_m: object = None) -> list[Row]:
    """Return the geometry, each value with where it came from."""
    told = values if isinstance(values, Mapping) else {}
    origins = told.get("origins") or {}
    length = told.get("wavelength_m")
    pitch = told.get("detector_pixel_m")
    energy = PLANCK_EV_M / length if isinstance(length, float) and length > 0 else None
    return [
        row("Wavelength", quantity(length, "m"), "plain", origins.get("wavelength_m")),
        row("as photon energy", quantity(energy, "eV") if energy else UNKNOWN),
        row(
            "Distance",
            quantity(told.get("distance_m"), "m"),
            "plain",
            origins.get("distance_m"),
        ),
        row("Detector pixel", _pair(pitch), "plain", origins.get("detector_pixel_m")),
        row("Object pixel", _pair(pixel_m), "plain", "computed" if pixel_m else ""),
    ]


def past(scans: object) -> list[dict[str, str]]:
    """Return past scans, the newest first, each a row of a table."""
    known = scans if isinstance(scans, list) else []
    return [_past(s) for s in reversed(known[-KEPT:]) if isinstance(s, Mapping)]


def _past(scan: Mapping[str, Any]) -> dict[str, str]:
    frames, found = scan.get("frames") or {}, scan.get("quality") or {}
    lost = sum((frames.get("lost") or {}).values())
    return {
        "scan": str(scan.get("scan", "")),
        "began_s": number(scan.get("started_s"), 12),
        "ended": str(scan.get("reason", "")),
        "frames": _frames(frames),
        "lost": str(lost),
        "held_out_error": number(found.get("held_out_error")),
        "resolution": quantity(found.get("resolution_m"), "m"),
        "result": str(scan.get("result") or "none"),
    }


def _frames(frames: Mapping[str, Any]) -> str:
    expected = frames.get("expected")
    received = frames.get("received", 0)
    return f"{received} of {expected}" if expected else f"{received}"


def _rate(value: object) -> str:
    text = number(value)
    return text if text == UNKNOWN else f"{text} per second"


def _ago(seconds: object) -> str:
    text = number(seconds, 2)
    return "not yet" if text == UNKNOWN else f"{text} s ago"


def _sure(share: object) -> str:
    known = isinstance(share, int | float) and math.isfinite(share)
    return f"{share:.0%} sure" if known else ""


def _pair(value: object) -> str:
    """Return y and x with their unit, once if they are alike."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return UNKNOWN
    texts = dict.fromkeys(quantity(v, "m") for v in value)
    return " × ".join(texts)


def _sinks(status: Mapping[str, Any]) -> list[Row]:
    """Return a line for each sink that fails."""
    return [
        row(f"Output {s.get('name')}", f"{s['failures']} failures", "bad")
        for s in status.get("sinks") or []
        if s.get("failures")
    ]
