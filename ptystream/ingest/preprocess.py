"""Pre-processing of a detector's stream in the receiver: pixels, and what starts say.

Orientation, dark, flat, mask, threshold, crop, binning, in this order. Shape, type and
detector pixel of a scan's start become those of the frames that follow it, and its
metadata tell under ``preprocess`` what was done.
"""

import logging
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ptystream.errors import DecodeError
from ptystream.ingest.centre import light_centre, window_around
from ptystream.ingest.first_frames import FirstFrames
from ptystream.ingest.pixels import (
    Corrections,
    Pixels,
    binned_dtype,
    is_count,
    limit,
    turned,
)
from ptystream.ingest.preprocess_files import read_array
from ptystream.ingest.preprocess_options import STREAM, Crop, PreprocessOptions
from ptystream.wire.envelope import EncodedFrame
from ptystream.wire.messages import (
    Calibration,
    Geometry,
    Heartbeat,
    Message,
    ScanEnd,
    ScanStart,
)

log = logging.getLogger(__name__)

Passed = Message | EncodedFrame
_Form = tuple[tuple[int, int], str]

_SCANS = 4  # scans remembered: leftovers of one come among the next


@dataclass
class _Scan:
    """What is known of one scan."""

    centre: tuple[float, float] | None
    centre_from: str = "config"
    start: ScanStart | None = None
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    first: FirstFrames = field(default_factory=FirstFrames)
    pixels: tuple[_Form, Pixels] | None = None
    ended: bool = False


class Preprocess:
    """Turns what came off the wire into what the engine wants; for one thread.

    Where the beam must be found, a scan's start and its first frames are held back.
    """

    def __init__(self, options: PreprocessOptions, crop: Crop | None = None) -> None:
        self._options, self._crop = options, crop
        self._plain = options == PreprocessOptions()
        self._finds_centre = options.finds_centre
        self._files: dict[str, np.ndarray] = {}
        self._scans: OrderedDict[str, _Scan] = OrderedDict()
        self._scratch = np.empty(0, np.uint8)

    def read_files(self) -> None:
        """Read dark, flat and mask; raise ConfigError for one that can't be used."""
        for name in ("dark", "flat", "mask"):
            place = getattr(self._options, name)
            if place not in (None, STREAM):
                self._files[name] = read_array(place, name)

    def take(self, message: Passed | Calibration, now_s: float) -> list[Passed]:
        """Return what can go on, in order; its frames are still encoded."""
        if isinstance(message, Heartbeat):
            return [message]
        if isinstance(message, EncodedFrame) and not self._finds_centre:
            return [message]
        anew = isinstance(message, Calibration | ScanStart)
        scan = self._scan(message.scan, anew=anew)
        scan.ended |= isinstance(message, ScanEnd)
        if isinstance(message, Calibration):
            scan.arrays[message.name], scan.pixels = message.array, None
            return []
        reminder = isinstance(message, ScanStart) and scan.start is not None
        if isinstance(message, ScanStart):
            scan.start, scan.pixels = message, None
        if not self._finds_centre or scan.centre is not None:
            return [self._told(message, scan)]
        # Of a start and its reminders, the first is held.
        return [] if reminder else self._hold(message, scan, now_s)

    def tick(self, now_s: float) -> list[Passed]:
        """Return what has waited long enough for its centre."""
        ready: list[Passed] = []
        for scan in self._scans.values() if self._finds_centre else ():
            if scan.centre is None and scan.first.enough(now_s):
                ready += self._release(scan)
        return ready

    def form(self, frame: EncodedFrame) -> _Form:
        """Return shape and type that a frame will have; raise DecodeError if none."""
        if self._is_plain(frame.scan):
            return frame.shape if self._crop is None else self._crop[2:], frame.dtype
        pixels = self._pixels(frame)
        return pixels.shape, pixels.dtype.str

    def decode_into(self, frame: EncodedFrame, out: np.ndarray) -> None:
        """Fill ``out``, of the frame's ``form``; raise DecodeError and nothing else."""
        if not self._is_plain(frame.scan):
            self._pixels(frame).apply(self._raw(frame), out)
        elif self._crop is None:
            frame.decode_into(out)
        else:
            top, left, height, width = _inside(self._crop, frame.shape)
            out[:] = frame.decode_rows(top, top + height)[:, left : left + width]

    def _is_plain(self, name: str) -> bool:
        """Tell whether pixels go through as they are, but for a fixed crop."""
        scan = self._scans.get(name)
        return self._plain and (scan is None or "pixel_mask" not in scan.arrays)

    def _scan(self, name: str, *, anew: bool = False) -> _Scan:
        """Return what is known of a scan; ``anew``: not of one that has ended."""
        if anew and name in self._scans and self._scans[name].ended:
            del self._scans[name]
        if name not in self._scans:
            self._scans[name] = _Scan(self._options.centre)
            if len(self._scans) > _SCANS:
                self._scans.popitem(last=False)
        self._scans.move_to_end(name)
        return self._scans[name]

    def _hold(self, message: Passed, scan: _Scan, now_s: float) -> list[Passed]:
        """Keep a message until the beam's centre is known."""
        scan.first.hold(message)
        if isinstance(message, EncodedFrame):
            self._see(message, scan, now_s)
        if isinstance(message, ScanEnd) or scan.first.enough(now_s):
            return self._release(scan)
        return []

    def _see(self, frame: EncodedFrame, scan: _Scan, now_s: float) -> None:
        """Look where a frame has light."""
        try:
            raw = self._raw(frame)
        except DecodeError:
            return  # told and counted when it is to be written
        corrections = self._corrections(scan, raw.shape)
        believed = raw < limit(raw.dtype, corrections.saturation)
        if corrections.dead is not None:
            believed &= ~corrections.dead
        scan.first.see(np.where(believed, raw, 0), now_s)

    def _release(self, scan: _Scan) -> list[Passed]:
        """Fix the centre, and let go what waited for it."""
        light, size = scan.first.light, self._options.size
        if light is not None and size is not None:
            scan.centre = light_centre(turned(light, self._options), size)
            lit = scan.first.lit
            scan.centre_from = f"{lit} first frames" if lit else "middle"
        return [self._told(message, scan) for message in scan.first.release()]

    def _pixels(self, frame: EncodedFrame) -> Pixels:
        """Return the work on frames such as this one."""
        scan, form = self._scan(frame.scan), (frame.shape, frame.dtype)
        if scan.pixels is None or scan.pixels[0] != form:
            window = self._window(scan)
            if window is not None and window == self._crop:
                _inside(window, self._turned_shape(frame.shape))
            corrections = self._corrections(scan, frame.shape)
            dtype = np.dtype(frame.dtype)
            made = Pixels(frame.shape, dtype, self._options, corrections, window)
            scan.pixels = form, made
        return scan.pixels[1]

    def _raw(self, frame: EncodedFrame) -> np.ndarray:
        """Return a frame's pixels as sent, until the next one; raise DecodeError."""
        if frame.encoding == "raw" and len(frame.payload) == frame.nbytes:
            return np.frombuffer(frame.payload, frame.dtype).reshape(frame.shape)
        if len(self._scratch) < frame.nbytes:
            self._scratch = np.empty(frame.nbytes, np.uint8)
        raw = self._scratch[: frame.nbytes].view(frame.dtype).reshape(frame.shape)
        frame.decode_into(raw)
        return raw

    def _corrections(self, scan: _Scan, shape: tuple[int, ...]) -> Corrections:
        """Return the arrays for frames of a shape; the stream's own only if it fits."""
        o, files = self._options, self._files
        arrays = {n: a for n, a in scan.arrays.items() if a.shape == shape}
        if len(arrays) < len(scan.arrays):
            log.warning("the detector's calibration doesn't fit frames of %s", shape)
        dead = arrays.get("pixel_mask") if o.mask == STREAM else files.get("mask")
        said = scan.start.meta.get("saturation") if scan.start else None
        return Corrections(
            dark=files.get("dark"),
            flat=arrays.get("flatfield") if o.flat == STREAM else files.get("flat"),
            dead=None if dead is None else dead != 0,
            saturation=o.saturation or (said if is_count(said) else None),
        )

    def _window(self, scan: _Scan) -> Crop | None:
        """Return what is kept of a frame, in turned pixels."""
        o = self._options
        if o.size is None or scan.centre is None:
            return self._crop
        return window_around(scan.centre, o.size, o.binning)

    def _turned_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        return (shape[1], shape[0]) if self._options.transposed else shape

    def _told(self, message: Passed, scan: _Scan) -> Passed:
        """Return a start that speaks of the frames as they will be."""
        if not isinstance(message, ScanStart) or (self._plain and not self._crop):
            return message
        window, n, dtype = self._window(scan), self._options.binning, message.dtype
        kept = window[2:] if window else self._options.size
        kept = kept or (message.shape and self._turned_shape(message.shape))
        return replace(
            message,
            shape=kept and (kept[0] // n, kept[1] // n),
            dtype=dtype and binned_dtype(np.dtype(dtype), n).str,
            geometry=message.geometry and self._seen(message.geometry),
            meta={**message.meta, "preprocess": self._done(scan, window)},
        )

    def _seen(self, geometry: Geometry) -> Geometry:
        """Return the geometry of turned and binned frames."""
        y, x = geometry.detector_pixel_m
        y, x = (x, y) if self._options.transposed else (y, x)
        n = self._options.binning
        return replace(geometry, detector_pixel_m=(n * y, n * x))

    def _done(self, scan: _Scan, window: Crop | None) -> dict[str, Any]:
        """Return what was done, safe as JSON."""
        o = self._options
        done: dict[str, Any] = {"binning": o.binning, "transposed": o.transposed}
        if window is not None:
            done["window_px"] = list(window)
        if o.size is not None and scan.centre is not None:
            done["beam_centre_px"] = list(scan.centre)
            done["beam_centre_from"] = scan.centre_from
        return done


def _inside(crop: Crop, shape: tuple[int, int]) -> Crop:
    """Return the crop; raise DecodeError for a frame that it doesn't lie in."""
    top, left, height, width = crop
    if top + height > shape[0] or left + width > shape[1]:
        raise DecodeError(f"frame of {shape} is smaller than the crop {crop}")
    return crop
