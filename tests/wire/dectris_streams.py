"""What a detector of version 1 sends, part by part, with every freedom it takes."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import bitshuffle
import lz4.block
import numpy as np

from ptystream.errors import DecodeError
from ptystream.wire.dectris import DectrisDecoder
from ptystream.wire.envelope import EncodedFrame, Limits

TYPES = {1: "uint8", 2: "uint16", 4: "uint32"}
CONFIG = {
    "bit_depth_image": 16,
    "countrate_correction_count_cutoff": 60_000,
    "description": "Dectris EIGER1 Si 1M",
    "detector_distance": 2.0,
    "detector_number": "E-02-0153",
    "frame_time": 0.001,
    "nimages": 10,
    "ntrigger": 1,
    "photon_energy": 8000.0,
    "trigger_mode": "ints",
    "wavelength": 1.5498,
    "x_pixel_size": 0.000075,
    "x_pixels_in_detector": 12,
    "y_pixel_size": 0.00007,
    "y_pixels_in_detector": 10,
}


def j(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def counts(index: int, shape=(10, 12), dtype="<u2") -> np.ndarray:
    """Noise of the index's own, so that no two compress alike."""
    return np.random.default_rng(index).poisson(5.0, shape).astype(dtype)


def blob_of(array: np.ndarray, encoding: str, header: str = "proper") -> bytes:
    if encoding in ("<", "raw"):
        return array.tobytes()
    if encoding == "lz4<":
        return lz4.block.compress(array.tobytes(), store_size=False)
    blocks = bitshuffle.compress_lz4(array.ravel(), 8192 // array.itemsize).tobytes()
    proper = array.nbytes.to_bytes(8, "big") + (8192).to_bytes(4, "big")
    return {"proper": proper, "zero": bytes(12), "none": b""}[header] + blocks


def image(
    index: int,
    *,
    series: int = 14,
    encoding: str = "bs16-lz4<",
    dtype: str = "<u2",
    header: str = "proper",
    shape=(10, 12),
    **times: Any,
) -> list[bytes]:
    array = counts(index, shape, dtype)
    blob = blob_of(array, encoding, header)
    return [
        j(frame=index, hash="", htype="dimage-1.0", series=series),
        j(
            encoding=encoding,
            htype="dimage_d-1.0",
            shape=shape[::-1],
            size=len(blob),
            type=TYPES[array.itemsize],
        ),
        blob,
        j(htype="dconfig-1.0", **{"real_time": 1, "start_time": 5, "stop_time": 9})
        if not times
        else j(htype="dconfig-1.0", **times),
    ]


def dheader(detail: str = "basic", series: int = 14) -> bytes:
    return j(header_detail=detail, htype="dheader-1.0", series=series)


def header(detail: str = "basic", series: int = 14, **changes: Any) -> list[bytes]:
    parts = [dheader(detail, series)]
    if detail != "none":
        parts.append(j(**{**CONFIG, **changes}))
    if detail == "all":
        flat = np.arange(120, dtype="<f4").reshape(10, 12)
        mask = (np.arange(120).reshape(10, 12) % 7 == 0).astype("<u4")
        for kind, array in (("dflatfield", flat), ("dpixelmask", mask)):
            shape, type_ = array.shape[::-1], array.dtype.name
            parts.append(j(htype=f"{kind}-1.0", shape=shape, type=type_))
            parts.append(array.tobytes())
        table = j(htype="dcountrate_table-1.0", shape=[2, 4], type="float32")
        parts += [table, bytes(32)]
    return parts


def end(series: int = 14) -> bytes:
    return j(htype="dseries_end-1.0", series=series)


def series_of(n: int, **how: Any) -> list[list[bytes]]:
    """A whole series as multipart messages."""
    return [header(nimages=n), *(image(i, **how) for i in range(n)), [end()]]


class Received:
    """What a decoder makes of messages: good ones, and errors."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.decoder = DectrisDecoder(limits or Limits())
        self.messages: list[Any] = []
        self.errors: list[str] = []

    def take(self, *messages: Sequence[bytes]) -> "Received":
        for parts in messages:
            try:
                for envelope in self.decoder.decode(parts):
                    self.messages.append(envelope.message)
            except DecodeError as e:
                self.errors.append(str(e))
        return self

    @property
    def frames(self) -> list[EncodedFrame]:
        return [m for m in self.messages if isinstance(m, EncodedFrame)]

    def of(self, kind: type) -> list[Any]:
        return [m for m in self.messages if isinstance(m, kind)]


def flat(messages: Sequence[Sequence[bytes]]) -> Iterator[list[bytes]]:
    """Each part as a message of its own, as a proxy that forgets SNDMORE sends it."""
    return ([part] for parts in messages for part in parts)
