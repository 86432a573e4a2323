"""SIMPLON stream version 1: the parts of headers, images and ends, put together.

Parts are read as one flat sequence, by what each says it is: senders split a message,
glue several together, or send each part by itself, and of the last some may be lost.
An image whose parts came in one ZeroMQ message is whole. Of one whose parts came each
by itself, a loss shows in what follows: it is given out only when the next image's
number, or the end, tells that nothing can have been lost in between.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET

from ptystream.errors import DecodeError
from ptystream.wire.codecs import Buffer
from ptystream.wire.dectris_json import (
    ARRAYS,
    Part,
    read_json,
    read_part,
    read_text,
)

MAX_ARRAYS = 8
_CONFIG_KEYS = ("nimages", "x_pixels_in_detector", "trigger_mode", "frame_time")


@dataclass(slots=True)
class Header:
    """A series begins. ``arrays`` are (kind, description, bytes)."""

    series: int
    detail: str
    config: dict[str, Any] = field(default_factory=dict)
    arrays: list[tuple[str, Part, Buffer]] = field(default_factory=list)
    appendix: Any = None


@dataclass(slots=True)
class Image:
    """An image: its number, what describes its bytes, and they."""

    series: int
    frame: int
    data: Part | None = None
    blob: Buffer | None = None
    start_time: int | float = 0
    stop_time: int | float = 0
    whole: bool = True


@dataclass(frozen=True, slots=True)
class End:
    """A series ends."""

    series: int


class Parts:
    """Puts one connection's parts together; holds at most one header or image."""

    def __init__(self) -> None:
        self._header: Header | None = None
        self._image: Image | None = None
        self._array: tuple[str, Part] | None = None  # whose bytes come next
        self._first = True  # of its message
        self._in_message = 0  # parts of the header in this message
        self._flat = False  # each part comes by itself
        self._last_of: dict[int, int] = {}

    def feed(
        self, parts: Sequence[Buffer]
    ) -> Iterator[Header | Image | End | DecodeError]:
        """Yield what the parts of one ZeroMQ message complete, and what is lost."""
        self._first, self._in_message = True, 0
        if self._image is not None:
            self._image.whole, self._flat = False, True
        for part in parts:
            try:
                yield from self._take(part)
            except DecodeError as e:
                yield e
            self._first = False
        yield from self._close_message()

    def _close_message(self) -> Iterator[Header | Image]:
        """Give out what one message held whole; what began in it alone goes on."""
        if self._header is not None and self._in_message > 1 and self._array is None:
            yield self._header
            self._header = None
        image = self._image
        if image is not None and image.whole and image.blob is not None:
            self._image, self._flat = None, False
            yield image

    def _take(self, raw: Buffer) -> Iterator[Header | Image | End | DecodeError]:
        part = read_part(raw)
        kind = part.kind if part is not None else ""
        if kind == "image" and part and not part.htype and not self._first:
            kind = ""  # an appendix that has such keys
        if part is not None and kind:
            yield from self._known(kind, part)
        elif self._array is not None and self._header is not None:
            self._header.arrays.append((*self._array, raw))
            self._array = None
        elif self._image is not None:
            self._take_blob(self._image, raw)
        elif self._header is not None:
            self._take_loose(self._header, raw)
        elif self._first and not self._flat:
            raise DecodeError(f"part {bytes(raw[:40])!r} belongs to nothing")
        # Anything else is an image's appendix, or what is left of a lost image.

    def _known(
        self, kind: str, part: Part
    ) -> Iterator[Header | Image | End | DecodeError]:
        """Take a part that says what it is."""
        self._in_message += kind in ("header", *ARRAYS)
        if kind == "data":
            self._take_data(part)
        elif kind == "times":
            if self._image is not None and self._image.blob is not None:
                self._image.start_time = part.start_time
                self._image.stop_time = part.stop_time
            elif self._image is not None:
                self._lose("no bytes before its times")
        elif kind in ARRAYS:
            self._take_array(kind, part)
        else:
            yield from self._begin(kind, part)

    def _begin(
        self, kind: str, part: Part
    ) -> Iterator[Header | Image | End | DecodeError]:
        """Take what ends the thing before it: a header, an image, an end."""
        if part.series is UNSET or (kind == "image" and part.frame is UNSET):
            raise DecodeError(f"{kind} without a series or a number")
        before, self._image = self._image, None
        header, self._header, self._array = self._header, None, None
        if header is not None:
            yield header
        if before is not None and self._is_sure(before, kind, part):
            yield before
        elif before is not None:
            yield _lost(before, "some of its parts, or what follows, didn't come")
        yield from self._new(kind, part, part.series)

    def _new(self, kind: str, part: Part, series: int) -> Iterator[End]:
        if kind == "header":
            self._header = Header(series, part.header_detail)
        elif kind == "end":
            yield End(series)
        elif part.frame is not UNSET:
            self._image = Image(series, part.frame)

    def expect(self, series: int, images: int | None) -> None:
        """Note which image is a series' last, to tell whether one before an end is it.

        The last four series are remembered.
        """
        self._last_of.pop(series, None)
        if images:
            self._last_of[series] = images - 1
        while len(self._last_of) > 4:
            del self._last_of[next(iter(self._last_of))]

    def _is_sure(self, image: Image, kind: str, after: Part) -> bool:
        """Tell whether an image's bytes are its own, by what comes after them.

        Parts come in order: between an image and its series' next number nothing of
        another can stand, nor between its last image and its end. Which one is the last
        only the header tells: without it, or after an abort, the last one is lost.
        """
        if image.blob is None or image.whole:
            return image.blob is not None
        if after.series != image.series:
            return False
        if kind == "image":
            return after.frame == image.frame + 1
        return kind == "end" and self._last_of.get(image.series) == image.frame

    def _take_data(self, part: Part) -> None:
        image = self._image
        if image is None:
            return  # left over from a lost image
        if image.data is not None:
            self._lose("described twice")
        image.data = part

    def _take_blob(self, image: Image, raw: Buffer) -> None:
        if image.blob is not None:
            return  # its appendix
        if image.data is None:
            self._lose("bytes that nothing describes")
        elif image.data.size not in (UNSET, len(raw)):
            self._lose(f"{len(raw)} bytes, {image.data.size} were announced")
        image.blob = raw

    def _take_array(self, kind: str, part: Part) -> None:
        if self._header is not None and len(self._header.arrays) < MAX_ARRAYS:
            self._array = kind, part

    def _take_loose(self, header: Header, raw: Buffer) -> None:
        """Take a header's part without a type: its configuration, or its appendix."""
        self._in_message += 1
        value = read_json(raw)
        is_config = isinstance(value, dict) and any(k in value for k in _CONFIG_KEYS)
        if is_config and not header.config and header.detail != "none":
            header.config = value
        elif header.appendix is None:
            header.appendix = read_text(raw) if value is None else value

    def _lose(self, why: str) -> None:
        """Forget the image at hand; raise DecodeError."""
        image, self._image = self._image, None
        if image is not None:
            raise _lost(image, why)


def _lost(image: Image, why: str) -> DecodeError:
    return DecodeError(f"image {image.frame} of series {image.series}: {why}")
