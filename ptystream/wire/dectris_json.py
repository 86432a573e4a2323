"""SIMPLON stream version 1: what one JSON part says."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ptystream.errors import DecodeError
from ptystream.wire.codecs import Buffer
from ptystream.wire.headers import MAX_INDEX

MAX_JSON_BYTES = 1 << 20
"""A larger part isn't looked into; a configuration has 1300 bytes."""


_Index = Annotated[int, Meta(ge=0, lt=MAX_INDEX)]


class Part(msgspec.Struct, frozen=True):
    """A JSON part; which fields there are depends on ``htype``."""

    htype: str = ""
    series: _Index | UnsetType = UNSET
    frame: _Index | UnsetType = UNSET
    header_detail: str = ""
    shape: list[_Index] = []
    type: str = ""
    encoding: str = ""
    size: _Index | UnsetType = UNSET
    start_time: int | float = 0
    stop_time: int | float = 0

    @property
    def kind(self) -> str:
        """Return ``htype`` without its version, and one name for each kind."""
        if not self.htype and self.frame is not UNSET and self.series is not UNSET:
            return "image"  # republished at HXN without a type
        return _KINDS.get(self.htype.partition("-")[0], "")


_KINDS = {
    "dheader": "header",
    "dimage": "image",
    "dimage_d": "data",
    "dconfig": "times",
    "dseries_end": "end",
    "dflatfield": "flatfield",
    "flatfield": "flatfield",
    "dpixelmask": "pixel_mask",
    "pixelmask": "pixel_mask",
    "dcountrate_table": "countrate",
    "countrate_table": "countrate",
}
ARRAYS = ("flatfield", "pixel_mask", "countrate")
"""The kinds after which the bytes of a header's array come."""
_part = msgspec.json.Decoder(Part).decode
_any = msgspec.json.Decoder().decode


def read_part(raw: Buffer) -> Part | None:
    """Return a JSON part, None for anything else.

    Raises DecodeError for a part that has a type, and nonsense in its fields.
    """
    if len(raw) > MAX_JSON_BYTES or bytes(raw[:1]) != b"{":
        return None
    try:
        return _part(raw)
    except msgspec.ValidationError as e:
        if b'"htype"' not in bytes(raw):
            return None
        raise DecodeError(f"part {bytes(raw[:80])!r}: {e}") from e
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def read_json(raw: Buffer) -> Any:
    """Return what a small JSON part holds; None if it is none."""
    if len(raw) > MAX_JSON_BYTES:
        return None
    try:
        return _any(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def read_text(raw: Buffer) -> str | None:
    """Return a short appendix that isn't JSON."""
    try:
        return str(raw, "utf-8") if len(raw) <= 4096 else None
    except UnicodeDecodeError:
        return None
