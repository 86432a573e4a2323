"""EPICS PVAccess: images as NTNDArray, figures as NTScalar; read only, never complex.

Images have areaDetector's names (``<prefix>:Pva1:Image``), so that viewers made for
cameras find them. A slow client skips images; ``uniqueId`` grows by one with each.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from ptystream.errors import ConfigError
from ptystream.publish.extras import optional
from ptystream.publish.findings import findings, named
from ptystream.publish.images import Image
from ptystream.publish.preview import make_preview
from ptystream.publish.sink import FrameCounts, RunEnd, RunInfo
from ptystream.recon.snapshot import Snapshot

log = logging.getLogger(__name__)

PORT = 5075
BROADCAST_PORT = 5076
MAX_PX = 1024


@dataclass(frozen=True, slots=True)
class Variable:
    """A process variable: an image of the preview, or a figure of one EPICS type."""

    units: str
    about: str
    image: str = ""
    kind: str = ""


NO_NUMBER = float("nan")
VARIABLES: Mapping[str, Variable] = MappingProxyType(
    {
        "Pva1:Image": Variable("", "Object amplitude", "object_amplitude"),
        "Pva2:Image": Variable("rad", "Object phase, flattened", "object_phase"),
        "Pva3:Image": Variable("", "Probe amplitude, all modes", "probe_amplitude"),
        "Pva4:Image": Variable("", "Dose, 1 = a probe's peak", "coverage"),
        "Quality": Variable("", "Held-out amplitude error; less is better", kind="d"),
        "Resolution": Variable("m", "By Fourier ring correlation", kind="d"),
        "Converged": Variable("", "Whether more frames help no more", kind="?"),
        "Health": Variable("", "Faults found in the data", kind="s"),
        "Covered": Variable("", "Share of the scan with enough dose", kind="d"),
        "Frames": Variable("frames", "Received from the detector", kind="l"),
        "Lost": Variable("frames", "Lost, for whatever reason", kind="l"),
        "Step": Variable("steps", "Of the engine", kind="l"),
        "Rung": Variable("", "stxm, then reconstruction", kind="s"),
        "State": Variable("", "idle, running, or how the run ended", kind="s"),
        "Scan": Variable("", "Uid of the scan", kind="s"),
    }
)
_FIRST: Mapping[str, float | int | str] = {"d": NO_NUMBER, "l": 0, "s": "", "?": False}
_DISPLAY = [
    ("limitLow", "d"),
    ("limitHigh", "d"),
    ("description", "s"),
    ("units", "s"),
    ("precision", "i"),
]


class PvaServer:
    """Serves ``<prefix>:<name>`` for each of ``VARIABLES``; loopback unless told.

    A ``port`` of 0 is any free one, and then it can be found by that port only.
    Raises ConfigError without the extra ``epics``, or for a prefix with a space.
    """

    def __init__(
        self,
        prefix: str,
        interface: str = "127.0.0.1",
        port: int = PORT,
        broadcast_port: int = BROADCAST_PORT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not prefix or any(c.isspace() for c in prefix):
            raise ConfigError(f"PVA prefix {prefix!r}: expected a name without spaces")
        self._nt = optional("p4p.nt", "epics")
        self._shared_pv = optional("p4p.server.raw", "epics").SharedPV
        self._make_server = optional("p4p.server", "epics").Server
        self._prefix, self._clock = prefix, clock
        self._port = port
        self._settings = _settings(interface, port, broadcast_port)
        # One type each: a variable takes values of the very type that it began with.
        self._images = self._image_type()
        self._figures = {k: self._nt.NTScalar(k, display=k in "dl") for k in _FIRST}
        self._unique = 0

    def __enter__(self) -> Self:
        """Serve; ConfigError if the interface can't be used."""
        self._pvs = {name: self._variable(name) for name in VARIABLES}
        names = {f"{self._prefix}:{name}": pv for name, pv in self._pvs.items()}
        try:
            self._server = self._make_server([names], useenv=False, conf=self._settings)
        except RuntimeError as error:
            raise ConfigError(f"PVAccess on {self._settings}: {error}") from error
        bound = self.settings["EPICS_PVAS_SERVER_PORT"]
        if self._port and str(self._port) != bound:
            log.warning("PVAccess port %d is taken: serving on %s", self._port, bound)
        return self

    def __exit__(self, *exc: object) -> None:
        """Disconnect everybody."""
        self._server.stop()

    @property
    def settings(self) -> dict[str, str]:
        """What a client needs to find it, by the names of EPICS' variables."""
        return self._server.conf()

    @property
    def address(self) -> str:
        """Host and port that it serves on."""
        settings = self.settings
        host = settings["EPICS_PVAS_INTF_ADDR_LIST"].split(":")[0]
        return f"{host}:{settings['EPICS_PVAS_SERVER_PORT']}"

    def post(
        self, figures: Mapping[str, float | int | str], images: Mapping[str, Image]
    ) -> None:
        """Publish these variables, all with the same time; the rest stays."""
        now_s = self._clock()
        for name, value in figures.items():
            self._pvs[name].post(self._figure(name, value, now_s))
        if images:
            self._unique = (self._unique + 1) % 2**31
        for name, image in images.items():
            self._pvs[name].post(self._image(name, image, now_s))

    def _image_type(self) -> Any:
        """Return NTNDArray with its optional display; p4p 4.3's own way raises."""
        images = self._nt.NTNDArray()
        make = optional("p4p", "epics").Type
        images.type = make([("display", ("S", None, _DISPLAY))], base=images.type)
        return images

    def _variable(self, name: str) -> Any:
        if kind := VARIABLES[name].kind:
            return self._shared_pv(initial=self._figure(name, _FIRST[kind], 0.0))
        nothing = Image("", np.zeros((1, 1), np.float32), 0.0, 1.0, (0, 0), (0, 0))
        return self._shared_pv(initial=self._image(name, nothing, 0.0))

    def _figure(self, name: str, value: float | str, time_s: float) -> Any:
        variable = VARIABLES[name]
        fields: dict[str, Any] = {"value": value}
        if variable.kind in "dl":
            fields["display.units"] = variable.units
            fields["display.description"] = variable.about
        return self._figures[variable.kind].wrap(fields, timestamp=time_s)

    def _image(self, name: str, image: Image, time_s: float) -> Any:
        variable = VARIABLES[name]
        where = zip("YX", image.pixel_m, image.origin_m, strict=True)
        about = {}
        for axis, pixel_m, origin_m in where:
            about |= {f"PixelSize{axis}": pixel_m, f"Origin{axis}": origin_m}
        value = self._images.wrap(image.values(), attrib=about, timestamp=time_s)
        value.uniqueId = self._unique
        value.dataTimeStamp = value.timeStamp
        value.display = {
            "limitLow": image.low,
            "limitHigh": image.high,
            "description": variable.about,
            "units": variable.units,
        }
        return value


class PvaSink:
    """Turns each snapshot into variables, in its sink thread; ``PvaServer.post``."""

    name = "pva"

    def __init__(
        self,
        post: Callable[[Mapping[str, float | int | str], Mapping[str, Image]], None],
        max_px: int = MAX_PX,
    ) -> None:
        self._post, self._max_px = post, max_px

    def start(self, info: RunInfo) -> None:
        """Say that a run began; its figures are not known yet."""
        figures = {n: _FIRST[v.kind] for n, v in VARIABLES.items() if v.kind}
        self._post({**figures, "State": "running", "Scan": info.scan}, {})

    def update(self, snapshot: Snapshot, frames: FrameCounts) -> None:
        """Show the snapshot."""
        picture = make_preview(snapshot, self._max_px, "f4")
        layers = {image.name: image for image in picture.images}
        layers["probe_amplitude"] = _all_modes(layers["probe_amplitude"])
        images = {n: layers[v.image] for n, v in VARIABLES.items() if v.image}
        self._post(_figures(snapshot, frames), images)

    def stop(self, snapshot: Snapshot | None, frames: FrameCounts, end: RunEnd) -> None:
        """Show the final snapshot, and how the run ended."""
        if snapshot is not None:
            self.update(snapshot, frames)
        self._post({"State": end.reason}, {})

    def close(self) -> None:
        """Hold nothing, release nothing."""


def _figures(snapshot: Snapshot, frames: FrameCounts) -> dict[str, float | int | str]:
    return {
        "Quality": float(snapshot.quality.held_out_error),
        "Resolution": float(snapshot.quality.resolution_m),
        "Converged": bool(snapshot.quality.converged),
        "Health": named(findings(snapshot)),
        "Covered": float(snapshot.quality.covered),
        "Frames": int(frames.received),
        "Lost": int(sum(frames.lost.values())),
        "Step": int(snapshot.step),
        "Rung": snapshot.rung,
    }


def _all_modes(probe: Image) -> Image:
    """Return ``[k, k]``: the root of the modes' summed intensity."""
    total = np.sqrt((probe.pixels**2).sum(0))
    high = float(total.max(initial=0.0)) or 1.0
    return Image(probe.name, total, 0.0, high, probe.pixel_m, probe.origin_m)


def _settings(interface: str, port: int, broadcast_port: int) -> dict[str, str]:
    """Return the server's part of EPICS' variables; the environment's don't count."""
    local = interface.startswith("127.") or interface == "localhost"
    return {
        "EPICS_PVAS_INTF_ADDR_LIST": interface,
        "EPICS_PVAS_SERVER_PORT": str(port),
        "EPICS_PVAS_BROADCAST_PORT": str(broadcast_port if port else 0),
        "EPICS_PVAS_BEACON_ADDR_LIST": interface if local else "",
        "EPICS_PVAS_AUTO_BEACON_ADDR_LIST": "NO" if local else "YES",
    }
