"""What a Bluesky run says of itself to the control socket: pure, no socket."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from ptystream.errors import DecodeError

Uid = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One value of the geometry, and where it was found."""

    value: float
    origin: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class RunNote(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of a run so far; several notes of one run add up.

    ``scan`` is the uid that the streams use, if it isn't the run's own. ``baseline``
    and ``configuration`` are data by key, of the baseline's event and the descriptors.
    ``geometry`` holds what the sender knows for sure, ``frames`` how many will come.
    """

    uid: Uid
    scan: Uid | None = None
    start_document: dict[str, Any] = {}
    baseline: dict[str, Any] = {}
    configuration: dict[str, Any] = {}
    geometry: dict[str, Told] = {}
    frames: Annotated[int, msgspec.Meta(gt=0, le=2**40)] | None = None

    def with_more(self, other: "RunNote") -> "RunNote":
        """Return both notes in one; where they differ, the other wins."""
        return RunNote(
            self.uid,
            other.scan or self.scan,
            {**self.start_document, **other.start_document},
            {**self.baseline, **other.baseline},
            {**self.configuration, **other.configuration},
            {**self.geometry, **other.geometry},
            other.frames or self.frames,
        )


def run_note(args: Mapping[str, Any]) -> RunNote:
    """Return a request's args as a note; DecodeError says what is wrong."""
    try:
        return msgspec.convert(dict(args), RunNote)
    except msgspec.ValidationError as error:
        raise DecodeError(f"run: {error}") from error
