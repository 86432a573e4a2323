"""The preview's wire format: one msgpack header, then one raw buffer per image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np

from ptystream.errors import DecodeError

MAX_HEADER_BYTES = 64 * 1024
MAX_IMAGES = 16
_DTYPES = {"|u1": np.dtype("u1"), "<f4": np.dtype("<f4")}


@dataclass(frozen=True, slots=True)
class Image:
    """One picture layer ``[h, w]`` or ``[modes, h, w]``, uint8 or float32.

    A uint8 value v means ``low + v / 255 * (high - low)``; float32 is itself, with
    low and high its range. ``origin_m`` is the (y, x) of pixel [0, 0]'s centre.
    """

    name: str
    pixels: np.ndarray
    low: float
    high: float
    pixel_m: tuple[float, float]
    origin_m: tuple[float, float]

    def values(self) -> np.ndarray:
        """Return float32 values, whatever the wire carried."""
        if self.pixels.dtype != np.uint8:
            return self.pixels
        step = (self.high - self.low) / 255
        return self.pixels.astype(np.float32) * np.float32(step) + np.float32(self.low)


@dataclass(frozen=True, slots=True)
class Picture:
    """All layers of one preview; ``about`` is msgpack-safe: run, step, quality."""

    images: tuple[Image, ...]
    about: Mapping[str, Any] = field(default_factory=dict)


def encode_picture(picture: Picture, stamp: Mapping[str, Any]) -> list[bytes]:
    """Return the message's parts; ``stamp`` (seq, instance) goes into the header."""
    header = {
        **picture.about,
        **stamp,
        "images": [_describe(image) for image in picture.images],
    }
    buffers = [np.ascontiguousarray(image.pixels).tobytes() for image in picture.images]
    return [msgpack.Packer().pack(header), *buffers]


def decode_picture(parts: Sequence[bytes]) -> Picture:
    """Decode one preview message; raise DecodeError and nothing else.

    ``about`` holds the header without the images, so also seq and instance.
    """
    try:
        if not parts or len(parts[0]) > MAX_HEADER_BYTES:
            raise DecodeError(f"preview header missing or > {MAX_HEADER_BYTES} bytes")
        header = msgpack.unpackb(parts[0])
        described = header.pop("images")
        if len(described) != len(parts) - 1 or len(described) > MAX_IMAGES:
            raise DecodeError(
                f"preview of {len(described)} images in {len(parts) - 1} buffers"
            )
        images = [_image(d, b) for d, b in zip(described, parts[1:], strict=True)]
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        msgpack.UnpackException,
    ) as error:
        raise DecodeError(f"preview of {len(parts)} parts: {error!r}") from error
    return Picture(tuple(images), header)


def _describe(image: Image) -> dict[str, Any]:
    return {
        "name": image.name,
        "dtype": image.pixels.dtype.str,
        "shape": list(image.pixels.shape),
        "low": image.low,
        "high": image.high,
        "pixel_m": list(image.pixel_m),
        "origin_m": list(image.origin_m),
    }


def _image(described: Mapping[str, Any], buffer: bytes) -> Image:
    shape = tuple(int(n) for n in described["shape"])
    if len(shape) not in (2, 3) or min(shape) < 0:
        raise ValueError(f"shape {shape[:4]}, expected [h, w] or [modes, h, w]")
    pixels = np.frombuffer(buffer, _DTYPES[described["dtype"]]).reshape(shape)
    return Image(
        str(described["name"]),
        pixels,
        float(described["low"]),
        float(described["high"]),
        _pair(described["pixel_m"]),
        _pair(described["origin_m"]),
    )


def _pair(values: Sequence[float]) -> tuple[float, float]:
    y, x = values
    return float(y), float(x)
