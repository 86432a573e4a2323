"""Snapshots as the Bluesky documents of a derived run; pure: nothing is sent here.

Numbers that are not known yet are NaN in the documents (and null once they are
JSON, which has no NaN). A consumer that starts analyses must ignore runs whose
start has ``original_run_uid``, or it would feed on its own output.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from ptystream import __version__
from ptystream.publish.documents_schema import (
    CONFIGURATION,
    EVENT,
    SCHEMA_VERSION,
    STREAM,
    VERSION_KEY,
    data_keys,
)
from ptystream.publish.extras import optional
from ptystream.publish.findings import findings, named
from ptystream.publish.metadata import clean, original_uid, scan_metadata
from ptystream.publish.sink import FrameCounts, RunEnd, RunInfo
from ptystream.recon.snapshot import Snapshot

Document = tuple[str, dict[str, Any]]
"""A document's name and the document."""

_EXIT = {"complete": "success", "aborted": "abort"}


class DerivedRun:
    """Composes start, one descriptor, an event per snapshot, and stop.

    The descriptor waits for the first snapshot, which knows the object's pixel.
    Raises ConfigError without event-model.
    """

    def __init__(self, info: RunInfo, clock: Callable[[], float] = time.time) -> None:
        self._model = optional("event_model", "bluesky")
        self._clock = clock
        self._bundle = self._model.compose_run(
            uid=info.run, time=info.started_s, metadata=start_metadata(info)
        )
        self._compose_event: Callable[..., dict[str, Any]] | None = None

    def start(self) -> Document:
        """Return the start document; its uid is the run's."""
        return "start", dict(self._bundle.start_doc)

    def update(self, snapshot: Snapshot, frames: FrameCounts) -> list[Document]:
        """Return the snapshot's event, after the descriptor if it is the first."""
        documents: list[Document] = []
        if self._compose_event is None:
            documents.append(self._descriptor(snapshot))
        data = _data(snapshot, frames)
        now_s = self._clock()
        event = self._compose_event(  # type: ignore[misc]  # set by _descriptor
            data=data, timestamps=dict.fromkeys(data, now_s), time=now_s
        )
        return [*documents, ("event", dict(event))]

    def stop(
        self, snapshot: Snapshot | None, frames: FrameCounts, end: RunEnd
    ) -> list[Document]:
        """Return the final snapshot's event, if there is one, and the stop document."""
        documents = [] if snapshot is None else self.update(snapshot, frames)
        stop = self._bundle.compose_stop(
            **how_it_ended(frames, end), time=self._clock()
        )
        return [*documents, ("stop", {**stop, VERSION_KEY: SCHEMA_VERSION})]

    def _descriptor(self, snapshot: Snapshot) -> Document:
        now_s = self._clock()
        bundle = self._bundle.compose_descriptor(
            name=STREAM,
            data_keys=data_keys(EVENT),
            hints={"ptystream": {"fields": ["held_out_error", "covered"]}},
            object_keys={"ptystream": [key.name for key in EVENT]},
            configuration={"ptystream": _configuration(snapshot, now_s)},
            time=now_s,
        )
        self._compose_event = bundle.compose_event
        return "descriptor", {**bundle.descriptor_doc, VERSION_KEY: SCHEMA_VERSION}


def start_metadata(info: RunInfo) -> dict[str, Any]:
    """Return what a derived run says of itself, beside uid and time."""
    meta = info.provenance.get("scan")
    meta = meta if isinstance(meta, Mapping) else {}
    raw_uid = original_uid(info.scan, meta)
    own = {k: v for k, v in info.provenance.items() if k != "scan"}
    return {
        **scan_metadata(meta),
        "plan_name": "ptystream",
        "purpose": "live reconstruction",
        "original_run_uid": raw_uid,
        "raw_uid": raw_uid,
        "scan_uid": info.scan,
        VERSION_KEY: SCHEMA_VERSION,
        "analysis": {"software": "ptystream", "version": __version__, **clean(own)},
        "hints": {"dimensions": [[["time"], STREAM]]},
    }


def how_it_ended(frames: FrameCounts, end: RunEnd) -> dict[str, str]:
    """Return ``exit_status`` and ``reason`` of a run."""
    lost = ", ".join(f"{n} {why}" for why, n in frames.lost.items() if n) or "none"
    return {
        "exit_status": _EXIT.get(end.reason, "fail"),
        "reason": f"scan {end.reason}; refined: {end.refined}; frames lost: {lost}",
    }


def _data(snapshot: Snapshot, frames: FrameCounts) -> dict[str, Any]:
    quality = snapshot.quality
    expected = float("nan") if frames.expected is None else float(frames.expected)
    return {
        "step": int(snapshot.step),
        "exposures": int(snapshot.exposures),
        "rolled_back": int(snapshot.rolled_back),
        "loss": float(quality.loss),
        "held_out_error": float(quality.held_out_error),
        "flat_error": float(quality.flat_error),
        "noise_error": float(quality.noise_error),
        "held_out_nll": float(quality.held_out_nll),
        "covered": float(quality.covered),
        "resolution_m": float(quality.resolution_m),
        "converged": bool(quality.converged),
        "health": named(findings(snapshot)),
        "probe_released": bool(quality.probe_released),
        "frames_expected": expected,
        "frames_received": int(frames.received),
        "frames_paired": int(frames.paired),
        "frames_lost": int(sum(frames.lost.values())),
        "rung": snapshot.rung,
        "object_slices": int(snapshot.object.shape[0]),
        "object_rows": int(snapshot.object.shape[1]),
        "object_columns": int(snapshot.object.shape[2]),
        "object_origin_y": float(snapshot.origin_m[0]),
        "object_origin_x": float(snapshot.origin_m[1]),
    }


def _configuration(snapshot: Snapshot, now_s: float) -> dict[str, Any]:
    """Return what stays the same all run: the object's pixel and the probe's shape."""
    data: dict[str, Any] = {
        "object_pixel": [float(m) for m in snapshot.pixel_m],
        "probe_shape": [int(n) for n in snapshot.probe.shape],
    }
    return {
        "data": data,
        "timestamps": dict.fromkeys(data, now_s),
        "data_keys": data_keys(CONFIGURATION),
    }
