"""The tape's reader and its index, on files of any bytes."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

from ptystream.errors import TapeError
from ptystream.tape import format as fmt
from ptystream.tape.index import MAGIC, TapeIndex, index_path
from ptystream.tape.log import TapeReader, record_bytes
from ptystream.tape.source import TapeMessages
from ptystream.tape.streams import streams_of
from tools.fuzzing import seeds
from tools.fuzzing.mend import mended
from tools.fuzzing.oracle import expect


def tape() -> Callable[[bytes], None]:
    """Return a check of the reader; a first odd byte has the checksums mended."""
    folder = _folder()

    def check(data: bytes) -> None:
        path = Path(folder.name) / "any.tape"
        raw = data[1:]
        path.write_bytes(mended(raw) if data[:1] and data[0] & 1 else raw)
        try:
            with TapeReader(path) as reader:
                _read(reader, len(raw))
        except TapeError:
            return

    return check


def _read(reader: TapeReader, size: int) -> None:
    streams_of(reader.header)
    records = list(reader)
    used = sum(record_bytes(record) for record in records)
    damage = reader.damage
    told = used + damage.skipped_bytes + damage.torn_bytes
    expect(told == size - reader.first, f"{told} bytes of {size - reader.first}")
    glanced = {glance.offset for glance in reader.glances()}
    expect(bool(damage) or glanced == {r.offset for r in records}, "glances differ")
    for _ in TapeMessages(records):
        pass


def index() -> Callable[[bytes], None]:
    """Return a check of a good tape with any index; a first odd byte has it mended."""
    folder = _folder()
    good = Path(folder.name) / "good.tape"
    good.write_bytes(seeds.tapes()[0][1:])
    with TapeReader(good) as reader:
        records = list(reader)

    def check(data: bytes) -> None:
        path = Path(folder.name) / good.name
        kept, at = data[1:], len(MAGIC)
        if data[:1] and data[0] & 1 and len(kept) > at + 4:
            crc = crc32(kept[at + 4 + fmt.PREAMBLE.size + 4 :])
            kept = kept[:at] + crc.to_bytes(4, "little") + kept[at + 4 :]
        index_path(path).write_bytes(kept)
        with TapeReader(path) as reader:
            found = TapeIndex.read(reader)
        for number in found.rows["stream"].tolist():
            expect(number < len(found.streams), f"no stream {number}")
        expect(found.rows["offset"][-1] == records[-1].offset, "not this tape's end")

    return check


def index_seeds() -> list[bytes]:
    """Return the index of the tape that ``index`` has."""
    with _folder() as name:
        path = Path(name) / "seed.tape"
        path.write_bytes(seeds.tapes()[0][1:])
        with TapeReader(path) as reader:
            TapeIndex.read(reader)
        kept = index_path(path).read_bytes()
    return [b"\x00" + kept, b"\x01" + kept]


def _folder() -> tempfile.TemporaryDirectory[str]:
    """Return a new folder, which goes when nobody holds it any more."""
    return tempfile.TemporaryDirectory(prefix="ptystream-fuzz-")
