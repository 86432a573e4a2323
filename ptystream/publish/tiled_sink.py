"""Each reconstruction as a container of a Tiled server, while it forms and after.

``<path>/<run>`` holds ``live`` (previews at rate, the complex object and probe rarely)
and in the end ``final``, beside the quality's ``history``. Its metadata are those of
the derived run's start document, ``complete`` false until nothing more is written.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ptystream.publish.atomic import safe_name
from ptystream.publish.documents import how_it_ended, start_metadata
from ptystream.publish.documents_schema import SCHEMA_VERSION
from ptystream.publish.extras import optional
from ptystream.publish.findings import findings
from ptystream.publish.history import History
from ptystream.publish.metadata import clean
from ptystream.publish.preview import make_preview
from ptystream.publish.secret import read_secret
from ptystream.publish.sink import FrameCounts, RunEnd, RunInfo
from ptystream.publish.tiled_client import TiledServer, rounded
from ptystream.recon.snapshot import Snapshot

log = logging.getLogger(__name__)

SPEC = "ptystream"
LIVE_S = 10.0
"""Patience with the server for what is shown live; then the next snapshot's turn."""
FULL_S = 120.0
"""The same for complex arrays."""
SHOWN = ("object_amplitude", "object_phase", "probe_amplitude")
_DIMS = {2: ("y", "x"), 3: ("mode", "y", "x")}


class TiledSink:
    """Writes runs to a Tiled server that may be slow or gone: then it raises.

    The next call begins where the server is: the run's container is made again if it
    is lost, and a final that could not be written is tried once more when the next run
    starts. Arrays beyond ``max_mib`` are left out and named in ``left_out``. Raises
    ConfigError for a key that others may read, and without the extra ``tiled``.
    """

    name = "tiled"

    def __init__(
        self,
        uri: str,
        path: str = "ptystream",
        key_file: Path | None = None,
        every_s: float = 1.0,
        full_every_s: float = 30.0,
        preview_px: int = 256,
        max_mib: float = 256,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        key = (
            None
            if key_file is None
            else read_secret(key_file, "publish.tiled.key_file")
        )
        self._server = TiledServer(uri, key)
        self._spec = optional("tiled.structures.core", "tiled").Spec(
            SPEC, version=str(SCHEMA_VERSION)
        )
        self._path = "/".join(part for part in path.split("/") if part)
        self._every_s, self._full_every_s = every_s, full_every_s
        self._preview_px, self._max_bytes = preview_px, max_mib * 2**20
        self._clock = clock
        self._info: RunInfo | None = None
        self._history = History()
        self._began_s = self._shown_s = self._kept_s = 0.0
        self._owed: Callable[[], None] | None = None

    def start(self, info: RunInfo) -> None:
        """Make the run's container."""
        self._info, self._history = info, History()
        self._began_s = self._kept_s = self._clock()
        self._shown_s = -float("inf")
        with self._server.within(LIVE_S):
            self._container(info)
        if self._owed is not None:
            owed, self._owed = self._owed, None
            owed()

    def update(self, snapshot: Snapshot, frames: FrameCounts) -> None:
        """Write previews and history if it is time, the complex arrays if it is."""
        if self._info is None:
            return
        now_s = self._clock()
        self._history.add(now_s - self._began_s, snapshot, frames)
        if now_s - self._shown_s >= self._every_s:
            self._shown_s = now_s
            with self._server.within(LIVE_S):
                self._show(self._info, snapshot)
        if now_s - self._kept_s >= self._full_every_s:
            self._kept_s = now_s
            with self._server.within(FULL_S):
                self._container(self._info)
                self._keep(f"{self.path(self._info)}/live", snapshot, room=True)

    def stop(self, snapshot: Snapshot | None, frames: FrameCounts, end: RunEnd) -> None:
        """Write the final arrays, then say that the run is complete."""
        info, self._info = self._info, None
        if info is None:
            return
        if snapshot is not None:
            self._history.add(self._clock() - self._began_s, snapshot, frames)
        history = self._history

        def finish() -> None:
            with self._server.within(FULL_S):
                self._finish(info, history, snapshot, frames, end)

        self._owed = finish
        finish()
        self._owed = None

    def close(self) -> None:
        """Disconnect."""
        self._owed = None
        self._server.close()

    def path(self, info: RunInfo) -> str:
        """Return where the run is, below the server's address."""
        return f"{self._path}/{safe_name(info.run)}".lstrip("/")

    def _container(self, info: RunInfo) -> None:
        about = start_metadata(info)
        about.pop("hints")
        self._server.access_tags = about.pop("tiled_access_tags", None)
        about |= {"uid": info.run, "time": info.started_s, "complete": False}
        path = self.path(info)
        self._server.container(path, about, [self._spec])
        self._server.container(f"{path}/live")

    def _show(self, info: RunInfo, snapshot: Snapshot) -> None:
        """Write each preview into an array of one size, whatever the object's."""
        self._container(info)
        path, px = self.path(info), self._preview_px
        images = make_preview(snapshot, px, "f4").images
        for image in (i for i in images if i.name in SHOWN):
            pixels = image.pixels
            self._server.array(
                f"{path}/live/{image.name}",
                pixels,
                _about(pixels.shape, image.pixel_m, image.origin_m),
                _DIMS[pixels.ndim],
                room=(px, px) if pixels.ndim == 2 else None,
            )
        self._server.table(f"{path}/history", self._history.columns())
        self._server.update_metadata(path, _state(snapshot))

    def _keep(self, path: str, snapshot: Snapshot, *, room: bool) -> None:
        """Write the complex arrays and the positions, as they are."""
        arrays = {
            "object": (snapshot.object, ("slice", "y", "x")),
            "probe": (snapshot.probe, ("mode", "y", "x")),
            "coverage": (snapshot.coverage, ("y", "x")),
            "confidence": (snapshot.confidence, ("y", "x")),
            "positions_m": (snapshot.positions_m, ("exposure", "axis")),
        }
        left_out = []
        for name, (array, dims) in arrays.items():
            if array is None or not array.size:
                continue
            if array.nbytes > self._max_bytes:
                left_out.append(f"{name}: {array.nbytes / 2**20:.1f} MiB")
                continue
            about = _about(array.shape, snapshot.pixel_m, snapshot.origin_m)
            larger = rounded(array.shape) if room and name == "object" else None
            self._server.array(f"{path}/{name}", array, about, dims, larger)
        if left_out:
            log.warning("too large for Tiled: %s", ", ".join(left_out))
            self._server.update_metadata(path, {"left_out": left_out})

    def _finish(
        self,
        info: RunInfo,
        history: History,
        snapshot: Snapshot | None,
        frames: FrameCounts,
        end: RunEnd,
    ) -> None:
        self._container(info)
        path, state = self.path(info), {}
        if snapshot is not None:
            self._server.container(f"{path}/final")
            self._keep(f"{path}/final", snapshot, room=False)
            self._server.table(f"{path}/history", history.columns())
            state = _state(snapshot)
        ended = {**how_it_ended(frames, end), "frames": asdict(frames)}
        self._server.update_metadata(path, {**state, **ended, "complete": True})


def _state(snapshot: Snapshot) -> Mapping[str, Any]:
    """Return what the run's metadata say of its newest snapshot."""
    return {
        "object_pixel_m": [float(m) for m in snapshot.pixel_m],
        "object_origin_m": [float(m) for m in snapshot.origin_m],
        "step": int(snapshot.step),
        "rung": snapshot.rung,
        "quality": clean(asdict(snapshot.quality)),
        "health": clean(findings(snapshot)),
    }


def _about(
    shape: tuple[int, ...], pixel_m: tuple[float, float], origin_m: tuple[float, float]
) -> Mapping[str, Any]:
    """Return what an array's metadata say; ``shape`` is that without the margin."""
    return {
        "shape": [int(n) for n in shape],
        "pixel_m": [float(m) for m in pixel_m],
        "origin_m": [float(m) for m in origin_m],
    }
