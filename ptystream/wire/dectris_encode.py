"""Messages to DECTRIS SIMPLON stream version 1, as a detector sends them."""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from ptystream.wire.codecs import Buffer, Encoding
from ptystream.wire.dectris import CALIBRATIONS, TYPES
from ptystream.wire.dectris_config import DTYPES
from ptystream.wire.envelope import EncodedFrame, encode_frame
from ptystream.wire.messages import (
    PLANCK_EV_M,
    Calibration,
    Frame,
    ScanEnd,
    ScanStart,
)

Detail = Literal["none", "basic", "all"]

_NAMES = {dtype: name for name, dtype in TYPES.items()}
_BITS = {dtype: bits for bits, dtype in DTYPES.items()}
_HTYPES = {"flatfield": "dflatfield-1.0", "pixel_mask": "dpixelmask-1.0"}


class DectrisEncoder:
    """Encodes one series after the other; the decoder's inverse.

    The scan's name and meta go into the header's appendix. ``calibrations`` are sent
    with each header whose detail is ``all``.
    """

    def __init__(
        self,
        *,
        series: int = 1,
        detail: Detail = "basic",
        calibrations: Sequence[Calibration] = (),
    ) -> None:
        self.series = series
        self._next = series
        self._detail: Detail = detail
        self._calibrations = calibrations

    def encode(
        self,
        message: ScanStart | Frame | EncodedFrame | ScanEnd,
        encoding: Encoding = "raw",
    ) -> list[Buffer]:
        """Return the parts of one multipart message.

        ``encoding`` is for a Frame. Raises ValueError for what the wire doesn't carry.
        """
        if isinstance(message, ScanStart):
            return self._header(message)
        if isinstance(message, ScanEnd):
            return [_json(htype="dseries_end-1.0", series=self.series)]
        if isinstance(message, Frame):
            message = encode_frame(message, encoding)
        return self._image(message)

    def _header(self, start: ScanStart) -> list[Buffer]:
        if not start.again:
            self.series, self._next = self._next, self._next + 1
        head = _json(
            htype="dheader-1.0", series=self.series, header_detail=self._detail
        )
        parts: list[Buffer] = [head]
        if self._detail != "none":
            parts.append(_json(**config_of(start)))
        if self._detail == "all":
            for calibration in self._calibrations:
                parts += _array(calibration)
        return [*parts, _json(**{**start.meta, "ptystream_scan": start.scan})]

    def _image(self, frame: EncodedFrame) -> list[Buffer]:
        if frame.encoding not in ("raw", "lz4", "bslz4"):
            raise ValueError(f"encoding {frame.encoding!r} isn't one of this wire")
        bits = _BITS[frame.dtype]
        names = {"raw": "<", "lz4": "lz4<", "bslz4": f"bs{bits}-lz4<"}
        digest = hashlib.md5(frame.payload, usedforsecurity=False).hexdigest()
        head = {"frame": frame.index, "hash": digest, "series": self.series}
        return [
            _json(htype="dimage-1.0", **head),
            _json(
                htype="dimage_d-1.0",
                encoding=names[frame.encoding],
                shape=frame.shape[::-1],
                size=len(frame.payload),
                type=_NAMES[frame.dtype],
            ),
            frame.payload,
            _json(
                htype="dconfig-1.0",
                real_time=frame.stop_ns - frame.start_ns,
                start_time=frame.start_ns,
                stop_time=frame.stop_ns,
            ),
        ]


def config_of(start: ScanStart) -> dict[str, Any]:
    """Return a detector's configuration that says what a start does."""
    config: dict[str, Any] = {"trigger_mode": "ints", "ntrigger": 1}
    if start.frames_expected is not None:
        config["nimages"] = start.frames_expected
    if start.dwell_s is not None:
        config |= {"frame_time": start.dwell_s, "count_time": start.dwell_s}
    if start.dtype is not None:
        config["bit_depth_image"] = _BITS[start.dtype]
    if start.shape is not None:
        height, width = start.shape
        config |= {"y_pixels_in_detector": height, "x_pixels_in_detector": width}
    geometry = start.geometry
    if geometry is not None:
        y_m, x_m = geometry.detector_pixel_m
        config |= {
            "wavelength": geometry.wavelength_m * 1e10,
            "photon_energy": PLANCK_EV_M / geometry.wavelength_m,
            "detector_distance": geometry.distance_m,
            "y_pixel_size": y_m,
            "x_pixel_size": x_m,
        }
    return config


def _array(calibration: Calibration) -> list[Buffer]:
    array = np.ascontiguousarray(calibration.array, CALIBRATIONS[calibration.name])
    head = _json(
        htype=_HTYPES[calibration.name],
        shape=array.shape[::-1],
        type=CALIBRATIONS[calibration.name],
    )
    return [head, array.tobytes()]


def _json(**fields: Any) -> bytes:
    return msgspec.json.encode(fields)
