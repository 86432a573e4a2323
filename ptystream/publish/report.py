"""A run as one page of HTML that needs nothing else: to keep, to mail, to print."""

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ptystream import __version__
from ptystream.publish.atomic import write_atomic
from ptystream.publish.curves import curves
from ptystream.publish.sink import FrameCounts, RunEnd, RunInfo
from ptystream.recon.snapshot import Snapshot

MAX_TEXT = 200
"""Characters of a value of the scan's metadata that are shown."""
MAX_ROWS = 200
"""Values of the scan's metadata that are shown; the result file holds all."""

Row = tuple[str, str, str]
"""Name, value, and what there is to say of it."""

_PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Ended:
    """A run that is over: all that its report is made of."""

    info: RunInfo
    snapshot: Snapshot
    frames: FrameCounts
    end: RunEnd
    history: Mapping[str, np.ndarray]
    picture: bytes


def write_report(path: Path, ended: Ended) -> None:
    """Write the page, atomically; OSError if it can't be written."""
    write_atomic(path, page(ended).encode())


def page(ended: Ended) -> str:
    """Return the page; nothing of the scan's own text is taken for HTML."""
    info, told = ended.info, ended.info.provenance
    began = datetime.fromtimestamp(info.started_s, UTC)
    return _PAGES.get_template("report.html").render(
        title=info.scan,
        run=info.run,
        began=began.strftime("%Y-%m-%d %H:%M:%S UTC"),
        software=f"ptystream {__version__}",
        end=ended.end,
        findings=ended.snapshot.health,
        picture=base64.b64encode(ended.picture).decode(),
        curves=base64.b64encode(curves(ended.history, ended.snapshot.frc)).decode(),
        quality=quality_rows(ended.snapshot),
        frames=frame_rows(ended.frames),
        geometry=geometry_rows(told),
        metadata=metadata_rows(told.get("scan", {})),
        config=json.dumps(told.get("config", {}), indent=2, sort_keys=True),
    )


def quality_rows(snapshot: Snapshot) -> list[Row]:
    """Return how good the reconstruction is, with what each figure means."""
    q, pixel_m = snapshot.quality, snapshot.pixel_m
    h, w = snapshot.object.shape[-2:]
    return [
        (
            "held-out error",
            _digits(q.held_out_error),
            "of frames never learned from, as a share of their light",
        ),
        ("an empty object's", _digits(q.flat_error), "what it must stay below"),
        ("photon noise alone", _digits(q.noise_error), "what it cannot fall below"),
        ("resolution", _nm(q.resolution_m), "half-bit, between two halves of the data"),
        ("covered", f"{q.covered:.0%}", "of the scanned area had enough light"),
        ("converged", "yes" if q.converged else "no", ""),
        ("object", f"{h} × {w} px", f"of {_nm(pixel_m[0])} × {_nm(pixel_m[1])}"),
        ("steps", str(snapshot.step), f"from {snapshot.exposures} exposures"),
    ]


def frame_rows(frames: FrameCounts) -> list[Row]:
    """Return what became of the frames; losses that did not happen are left out."""
    expected = "not told" if frames.expected is None else str(frames.expected)
    lost = [(f"lost: {name}", str(n), "") for name, n in frames.lost.items() if n]
    return [
        ("expected", expected, ""),
        ("received", str(frames.received), ""),
        ("paired with positions", str(frames.paired), ""),
        *(lost or [("lost", "0", "")]),
    ]


def geometry_rows(told: Mapping[str, Any]) -> list[Row]:
    """Return each value of the geometry with where it was found."""
    origins = told.get("origins", {})
    values = told.get("geometry", {})
    return [
        (name, _text(value), _text(origins.get(name, "")))
        for name, value in values.items()
        if name != "origins" and value is not None
    ]


def metadata_rows(meta: Mapping[str, Any]) -> list[Row]:
    """Return the first of the scan's own metadata, long values cut."""
    return [(_text(name), _text(meta[name]), "") for name in list(meta)[:MAX_ROWS]]


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} …"


def _digits(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "not known"


def _nm(length_m: float) -> str:
    return f"{length_m * 1e9:.3g} nm" if math.isfinite(length_m) else "not known"
