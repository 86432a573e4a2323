"""A tape's scan as a CXI file, compressed patterns as they came."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np

from ptystream.config import Config
from ptystream.errors import DecodeError, FileFormatError
from ptystream.ingest.events import ScanClosed, ScanOpened
from ptystream.ingest.indices import IndexSet
from ptystream.ingest.sampled import SampledPositions
from ptystream.service.geometry import resolve_geometry
from ptystream.service.intake import encoder_table
from ptystream.service.recorded import RecordedScans, decoders_of, limits_of
from ptystream.tape.cxi_write import CxiWriter
from ptystream.tape.follow import GrowingTape
from ptystream.tape.format import Record
from ptystream.tape.log import TapeReader
from ptystream.tape.source import TapeMessages
from ptystream.wire import codecs
from ptystream.wire.codecs import Buffer
from ptystream.wire.envelope import EncodedFrame
from ptystream.wire.messages import Calibration, Exposure, Frame, ScanStart

HELD_BYTES = 1 << 30
"""Patterns of a growing tape that wait for their positions; beyond it the oldest is
left out, and counted."""
LISTED = 100
"""Left-out frames that are named; more are only counted."""
PIXEL_MASK = "pixel_mask"

Place = tuple[float, float]
T = TypeVar("T")


@dataclass
class Exported:
    """What an export did: ``frames`` are in the file, ``copied`` of them as they came.

    ``no_position`` frames had none and ``bad`` ones didn't decode, or were of another
    shape; ``left_out`` names the first 100 of both.
    """

    scan: str = ""
    frames: int = 0
    copied: int = 0
    no_position: int = 0
    bad: int = 0
    left_out: list[int] = field(default_factory=list)

    def leave_out(self, index: int, *, bad: bool = False) -> None:
        """Count and name a frame that isn't in the file."""
        self.bad += bad
        self.no_position += not bad
        if len(self.left_out) < LISTED:
            self.left_out.append(index)


def export(
    tape: TapeReader, path: Path, config: Config, scan: str | None = None
) -> Exported:
    """Write one scan of a tape (by its uid; None: the first), in the tape's order.

    The tape is read twice: first for the positions, then for the patterns.

    Raises:
        ConfigError: the geometry isn't known; the message says what gives it.
        FileFormatError: there is no exposure of such a scan, or no room for the file.
    """
    places: dict[int, tuple[int, Place]] = {}
    numbered = _Placeholders(lambda number, _: number)
    with _File(path, config, scan, follow=False) as file:
        for exposure in file.exposures(_scans(tape, tape.header, numbered, config)):
            number = numbered.pop(exposure)
            if number is not None:
                places[number] = exposure.frame.index, exposure.mean_m
        for number, frame in _frames(tape, config, upto=max(places, default=-1)):
            if number in places:
                file.put(frame, *places.pop(number))
            else:
                file.pass_over(frame)
        return file.done


def export_growing(
    tape: TapeReader,
    path: Path,
    config: Config,
    scan: str | None = None,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> Exported:
    """Write a scan while it is recorded, exposures as they are complete.

    The file can be read in SWMR mode meanwhile. It ends with the scan, when the
    recorder has gone, or when ``stop`` says so. Raises as ``export`` does.
    """
    held = _Placeholders(lambda _, frame: frame, HELD_BYTES)
    with _File(path, config, scan, follow=True) as file:
        growing = GrowingTape(tape, stop=stop, idle=file.flush)
        for exposure in file.exposures(_scans(growing, tape.header, held, config)):
            frame = held.pop(exposure)
            if frame is not None:
                file.put(frame, exposure.frame.index, exposure.mean_m)
        file.done.no_position += held.forgotten
        for frame in held.left():
            file.pass_over(frame)
        return file.done


class _Placeholders(Generic[T]):
    """Stands in for the pixels while frames are joined with their positions.

    Through the join goes an array that takes no memory, told from every other by its
    identity; ``keep`` makes what is remembered for it, of the frame's number on the
    tape and the frame. Above ``max_bytes`` of payloads the oldest is forgotten.
    """

    def __init__(
        self, keep: Callable[[int, EncodedFrame], T], max_bytes: int | None = None
    ) -> None:
        self._keep, self._max_bytes = keep, max_bytes
        self._held: OrderedDict[int, tuple[np.ndarray, T, int]] = OrderedDict()
        self._number = self._bytes = self.forgotten = 0

    def __call__(self, frame: EncodedFrame, record: Record) -> Frame:
        """Return the frame with a placeholder."""
        counts = np.broadcast_to(np.zeros((), frame.dtype), frame.shape)
        size = len(frame.payload)
        kept = self._keep(self._number, frame)
        self._held[id(counts)] = counts, kept, size
        self._number += 1
        self._bytes += size
        while self._max_bytes is not None and self._bytes > self._max_bytes:
            _, (_, _, lost_bytes) = self._held.popitem(last=False)
            self._bytes -= lost_bytes
            self.forgotten += 1
        times = frame.start_ns, frame.stop_ns, record.mono_ns / 1e9
        return Frame(frame.scan, frame.index, counts, *times)

    def pop(self, exposure: Exposure) -> T | None:
        """Return what was kept for an exposure's frame; None if it was forgotten."""
        _, kept, size = self._held.pop(id(exposure.frame.counts), (None, None, 0))
        self._bytes -= size
        return kept

    def left(self) -> Iterator[T]:
        """Yield what no exposure was made of."""
        return (kept for _, kept, _ in self._held.values())


class _File:
    """The file of one scan, laid out when its first frame is known."""

    def __init__(
        self, path: Path, config: Config, scan: str | None, *, follow: bool
    ) -> None:
        self.done = Exported()
        self._path, self._config, self._wanted = path, config, scan
        self._follow = follow
        self._start: ScanStart | None = None
        self._mask: np.ndarray | None = None
        self._writer: CxiWriter | None = None
        self._scratch = np.empty(0)
        self._seen = IndexSet()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, trace)
        if error is None and self._writer is None:
            wanted = f" of scan {self._wanted}" if self._wanted else ""
            raise FileFormatError(
                f"{self._path}: no exposure{wanted} on the tape; expected frames and "
                f"positions that share their indices"
            )

    def exposures(self, scans: RecordedScans) -> Iterator[Exposure]:
        """Yield the exposures of the scan that is wanted, until it is over."""
        for event in scans:
            if isinstance(event, Calibration):
                if event.name == PIXEL_MASK:
                    self._mask = event.array == 0
            elif isinstance(event, ScanOpened):
                if self._start is None and self._wanted in (None, event.start.scan):
                    self._start, self.done.scan = event.start, event.start.scan
            elif isinstance(event, ScanClosed):
                if event.scan == self.done.scan and self._start is not None:
                    return
            elif self._start is not None and event.frame.scan == self.done.scan:
                yield event

    def put(self, frame: EncodedFrame, index: int, place_m: Place) -> None:
        """Write a frame, as it came if it can; else leave it out and count it."""
        writer = self._writer or self._begin(frame)
        self._seen.add(index)
        try:
            chunk, copied = self._chunk(frame)
        except DecodeError:
            self.done.leave_out(index, bad=True)
            return
        writer.append_chunk(index, chunk, place_m)
        self.done.frames += 1
        self.done.copied += copied

    def pass_over(self, frame: EncodedFrame) -> None:
        """Count a frame of this scan that has no position, unless it came twice."""
        if frame.scan == self.done.scan and frame.index not in self._seen:
            self._seen.add(frame.index)
            self.done.leave_out(frame.index)

    def flush(self) -> None:
        """Let readers see what is there."""
        if self._writer is not None:
            self._writer.flush()

    def _begin(self, frame: EncodedFrame) -> CxiWriter:
        """Open the file; ConfigError if the geometry isn't known."""
        start = self._start or ScanStart(frame.scan, "det")
        shape, dtype = frame.shape, np.dtype(frame.dtype)
        fits = self._mask is not None and self._mask.shape == shape
        self._scratch = np.empty(shape, dtype)
        self._writer = self._open.enter_context(
            CxiWriter(
                self._path,
                shape,
                dtype,
                resolve_geometry(start, self._config),
                mask=self._mask if fits else None,
                title=start.scan,
                follow=self._follow,
            )
        )
        return self._writer

    def _chunk(self, frame: EncodedFrame) -> tuple[Buffer, bool]:
        """Return a bslz4 chunk that can be read, and whether it is the payload itself.

        Raises DecodeError. Every payload is decoded once: HDF5 would tell of a corrupt
        chunk only to those who read it.
        """
        if (frame.shape, frame.dtype) != (self._scratch.shape, self._scratch.dtype):
            raise DecodeError(f"frame of {frame.dtype} {frame.shape}")
        frame.decode_into(self._scratch)
        size = int.from_bytes(frame.payload[:8], "big")
        if frame.encoding == "bslz4" and size == frame.nbytes:
            return frame.payload, True
        return codecs.encode(self._scratch, "bslz4"), False


def _scans(
    records: Iterable[Record],
    header: Mapping[str, Any],
    as_frame: _Placeholders[Any],
    config: Config,
) -> RecordedScans:
    """Join a tape's messages, its patterns as the detector sent them."""
    positions = config.positions
    return RecordedScans(
        records,
        header,
        as_frame=as_frame,
        sampled=SampledPositions(encoder_table(positions), positions.per_frame),
        limits=limits_of(config.detector),
        lag=positions.lag,
    )


def _frames(
    tape: TapeReader, config: Config, upto: int
) -> Iterator[tuple[int, EncodedFrame]]:
    """Yield the frames of a tape with their numbers, to this one at most."""
    number = -1
    decoders = decoders_of(tape.header, limits_of(config.detector))
    messages = TapeMessages(tape, decoders)
    for _, message in messages.encoded():
        if isinstance(message, EncodedFrame):
            number += 1
            yield number, message
        if number >= upto:
            return
