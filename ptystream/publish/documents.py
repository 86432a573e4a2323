"""Snapshots as the Bluesky documents of a derived run; pure: nothing is sent here.

Numbers that are not known yet are NaN in the documents (and null once they are
JSON, which has no NaN). A consumer that starts analyses must ignore runs whose
start has ``original_run_uid``, or it would feed on its own output.
"""

import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from ptystream import __version__
from ptystream.errors import ConfigError
from ptystream.publish.metadata import clean, original_uid, scan_metadata
from ptystream.publish.sink import FrameCounts, RunEnd, RunInfo
from ptystream.recon.snapshot import Snapshot

SCHEMA_VERSION = 1
"""Of the start document's own keys and the stream ``recon``."""

STREAM = "recon"

Document = tuple[str, dict[str, Any]]
"""A document's name and the document."""

_EXIT = {"complete": "success", "aborted": "abort"}

_KEYS: Mapping[str, tuple[str, str, tuple[int, ...], str | None]] = {
    # name: dtype, dtype_numpy, shape, units
    "step": ("integer", "<i8", (), None),
    "exposures": ("integer", "<i8", (), None),
    "rolled_back": ("integer", "<i8", (), None),
    "loss": ("number", "<f8", (), None),
    "held_out_error": ("number", "<f8", (), None),
    "flat_error": ("number", "<f8", (), None),
    "held_out_nll": ("number", "<f8", (), None),
    "covered": ("number", "<f8", (), None),
    "probe_released": ("boolean", "|b1", (), None),
    "frames_expected": ("number", "<f8", (), None),
    "frames_received": ("integer", "<i8", (), None),
    "frames_paired": ("integer", "<i8", (), None),
    "frames_lost": ("integer", "<i8", (), None),
    "object_shape": ("array", "<i8", (3,), "px"),
    "object_origin": ("array", "<f8", (2,), "m"),
}


def extra(module: str, package: str) -> Any:
    """Import what the extra ``bluesky`` brings; ConfigError if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"Bluesky documents need {package}: pip install 'ptystream[bluesky]'"
        ) from error


class DerivedRun:
    """Composes start, one descriptor, an event per snapshot, and stop.

    The descriptor waits for the first snapshot, which knows the object's pixel.
    Raises ConfigError without event-model.
    """

    def __init__(self, info: RunInfo, clock: Callable[[], float] = time.time) -> None:
        self._model = extra("event_model", "event-model")
        self._clock = clock
        self._bundle = self._model.compose_run(
            uid=info.run, time=info.started_s, metadata=_start_metadata(info)
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
        lost = ", ".join(f"{n} {why}" for why, n in frames.lost.items() if n) or "none"
        stop = self._bundle.compose_stop(
            exit_status=_EXIT.get(end.reason, "fail"),
            reason=f"scan {end.reason}; refined: {end.refined}; frames lost: {lost}",
            time=self._clock(),
        )
        return [*documents, ("stop", dict(stop))]

    def _descriptor(self, snapshot: Snapshot) -> Document:
        now_s = self._clock()
        bundle = self._bundle.compose_descriptor(
            name=STREAM,
            data_keys={name: _data_key(*key) for name, key in _KEYS.items()},
            hints={"ptystream": {"fields": ["held_out_error", "covered"]}},
            object_keys={"ptystream": list(_KEYS)},
            configuration={"ptystream": _configuration(snapshot, now_s)},
            time=now_s,
        )
        self._compose_event = bundle.compose_event
        return "descriptor", dict(bundle.descriptor_doc)


def _start_metadata(info: RunInfo) -> dict[str, Any]:
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
        "ptystream_schema": SCHEMA_VERSION,
        "analysis": {"software": "ptystream", "version": __version__, **clean(own)},
        "hints": {"dimensions": [[["time"], STREAM]]},
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
        "held_out_nll": float(quality.held_out_nll),
        "covered": float(quality.covered),
        "probe_released": bool(quality.probe_released),
        "frames_expected": expected,
        "frames_received": int(frames.received),
        "frames_paired": int(frames.paired),
        "frames_lost": int(sum(frames.lost.values())),
        "object_shape": [int(n) for n in snapshot.object.shape],
        "object_origin": [float(m) for m in snapshot.origin_m],
    }


def _data_key(
    dtype: str, dtype_numpy: str, shape: tuple[int, ...], units: str | None
) -> dict[str, Any]:
    key = {
        "source": "ptystream",
        "dtype": dtype,
        "dtype_numpy": dtype_numpy,
        "shape": list(shape),
    }
    return key if units is None else {**key, "units": units}


def _configuration(snapshot: Snapshot, now_s: float) -> dict[str, Any]:
    """Return what stays the same all run: the object's pixel and the probe's shape."""
    data: dict[str, Any] = {
        "object_pixel": [float(m) for m in snapshot.pixel_m],
        "probe_shape": [int(n) for n in snapshot.probe.shape],
    }
    return {
        "data": data,
        "timestamps": dict.fromkeys(data, now_s),
        "data_keys": {
            "object_pixel": _data_key("array", "<f8", (2,), "m"),
            "probe_shape": _data_key("array", "<i8", (3,), "px"),
        },
    }
