import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import TapeError
from ptystream.tape import format as fmt
from ptystream.tape.format import Record
from ptystream.tape.log import Damage, TapeReader, TapeWriter, write_all

RECORDS = [
    Record("det", (b"ptys1/det/start", b"{}"), 10, 1_000),
    Record("det", (b"ptys1/det/frame", b"h" * 30, bytes(range(256))), 20, 1_001),
    Record("pos", (b"", b"", b"x"), 21, 1_002),
    Record("pos", (), 22, 1_003),
    Record("det", (fmt.SYNC * 9, b"ptys1/det/end"), 30, 1_004),
]
parts = st.lists(st.binary(max_size=60), max_size=5).map(tuple)
records = st.lists(
    st.builds(
        Record,
        st.text(max_size=5),
        parts,
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**64 - 1),
    ),
    max_size=8,
)


def write(path: Path, wanted: list[Record], **header: object) -> Path:
    path.unlink(missing_ok=True)
    with TapeWriter(path, header) as tape:
        for r in wanted:
            tape.append(r.stream, r.parts, r.mono_ns, r.wall_ns)
    return path


def read(path: Path) -> tuple[list[Record], Damage]:
    with TapeReader(path) as tape:
        found = list(tape)
    return found, tape.damage


def plain(found: list[Record]) -> list[Record]:
    return [Record(r.stream, r.parts, r.mono_ns, r.wall_ns) for r in found]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, list[Record]]:
    """A tape, its bytes, and its records with their offsets."""
    path = write(tmp_path_factory.mktemp("tape") / "whole.tape", RECORDS, scan="s")
    return path, path.read_bytes(), read(path)[0]


@given(records)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[Record]
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "round.tape", wanted)
    found, damage = read(path)
    assert plain(found) == wanted
    assert not damage


def test_the_header_describes_the_file(whole: tuple[Path, bytes, list[Record]]) -> None:
    with TapeReader(whole[0]) as tape:
        assert tape.header["scan"] == "s"
        assert tape.header["version"] == fmt.VERSION
        assert tape.header["software"].startswith("ptystream ")
        assert "crc32" in tape.header["record"]


@given(st.data())
def test_a_cut_at_any_byte_costs_one_record(
    whole: tuple[Path, bytes, list[Record]],
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:
    _, raw, wanted = whole
    cut = data.draw(st.integers(fmt.PREAMBLE.size, len(raw) - 1))
    path = tmp_path_factory.getbasetemp() / "cut.tape"
    path.write_bytes(raw[:cut])
    ends = [r.offset for r in wanted[1:]] + [len(raw)]
    kept = sum(end <= cut for end in ends)
    found, damage = read(path)
    assert found == wanted[:kept]
    if cut < wanted[0].offset:
        assert damage.header_lost
        return
    last = ends[kept - 1] if kept else wanted[0].offset
    assert damage == Damage(torn_at=last if cut > last else None, torn_bytes=cut - last)


@given(st.data())
def test_a_cut_tape_can_be_resumed(
    whole: tuple[Path, bytes, list[Record]],
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:
    _, raw, wanted = whole
    cut = data.draw(st.integers(wanted[0].offset, len(raw)))
    path = tmp_path_factory.getbasetemp() / "resumed.tape"
    path.write_bytes(raw[:cut])
    kept = plain(read(path)[0])
    with TapeWriter(path, {}, resume=True) as tape:
        tape.append("det", [b"more"], 40, 1_005)
    found, damage = read(path)
    assert plain(found) == [*kept, Record("det", (b"more",), 40, 1_005)]
    assert not damage


@given(st.data())
def test_a_flip_of_any_byte_is_told_and_costs_one_record(
    whole: tuple[Path, bytes, list[Record]],
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:
    _, raw, wanted = whole
    at = data.draw(st.integers(0, len(raw) - 1))
    flip = data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "flipped.tape"
    path.write_bytes(raw[:at] + bytes([raw[at] ^ flip]) + raw[at + 1 :])
    if at < 12:
        with pytest.raises(TapeError, match="tape"), TapeReader(path):
            pass
        return
    found, damage = read(path)
    assert damage
    hit = [r for r in wanted if r.offset <= at]
    assert found == [r for r in wanted if not hit or r is not hit[-1]]
    assert damage.header_lost == (not hit)
    if hit and hit[-1] is not wanted[-1]:
        assert damage.offsets == (hit[-1].offset,)


@given(st.binary(max_size=300))
def test_any_bytes_raise_only_tape_error(
    whole: tuple[Path, bytes, list[Record]],
    tmp_path_factory: pytest.TempPathFactory,
    noise: bytes,
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.tape"
    for raw in (noise, whole[1][:12] + noise, whole[1] + noise):
        path.write_bytes(raw)
        try:
            read(path)
        except TapeError:
            assert not raw.startswith(whole[1][:20])


def test_damage_is_skipped_to_the_next_record(
    tmp_path: Path, whole: tuple[Path, bytes, list[Record]]
) -> None:
    _, raw, wanted = whole
    first, second, third = (r.offset for r in wanted[:3])
    path = tmp_path / "junk.tape"
    path.write_bytes(raw[: second + 3] + b"?" * 3_000_000 + raw[second + 3 :])
    found, damage = read(path)
    assert found == wanted[:1]  # what was shifted is not where it says it is
    assert damage.offsets == (second,)
    path.write_bytes(raw[:first] + bytes(third - first) + raw[third:])
    found, damage = read(path)
    assert found == wanted[2:]
    assert damage == Damage(1, (first,), third - first)


def test_resync_finds_a_record_across_windows(tmp_path: Path) -> None:
    blob = os.urandom(1 << 20)
    wanted = [Record("det", (blob[:-k],), k, k) for k in range(1, 5)]
    path = write(tmp_path / "long.tape", wanted)
    offsets = [r.offset for r in read(path)[0]]
    raw = bytearray(path.read_bytes())
    raw[offsets[0]] ^= 1
    raw[offsets[2] + 40] ^= 1
    path.write_bytes(raw)
    found, damage = read(path)
    assert plain(found) == [wanted[1], wanted[3]]
    assert damage.regions == 2
    assert damage.offsets == (offsets[0], offsets[2])


def test_a_tape_inside_a_tape_is_never_taken_for_its_records(tmp_path: Path) -> None:
    inner = write(tmp_path / "inner.tape", RECORDS).read_bytes()
    wanted = [Record("det", (inner,), 1, 1), Record("det", (b"after",), 2, 2)]
    path = write(tmp_path / "outer.tape", wanted)
    raw = bytearray(path.read_bytes())
    raw[read(path)[0][0].offset] ^= 1
    path.write_bytes(raw)
    found, damage = read(path)
    assert plain(found) == wanted[1:]
    assert damage.regions == 1


@pytest.mark.parametrize("claim", [0xFFFFFFFF, fmt.MAX_RECORD_BYTES, 1 << 29])
def test_a_claimed_length_takes_no_memory(tmp_path: Path, claim: int) -> None:
    path = write(tmp_path / "liar.tape", RECORDS[:1])
    with path.open("r+b") as file:  # a sparse file: it has the bytes that it claims
        offset = file.seek(0, os.SEEK_END)
        head = fmt.encode_record(Record("s", (b"",), 0, 0), offset)[0][0]
        file.write(head[:12] + claim.to_bytes(4, "little") + head[16:])
        file.truncate(1 << 36)
    with TapeReader(path) as tape:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert next(iter(tape)).parts == RECORDS[0].parts
        assert tape._record(offset, 1 << 36) is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_iterating_again_begins_again(whole: tuple[Path, bytes, list[Record]]) -> None:
    with TapeReader(whole[0]) as tape:
        assert list(tape) == list(tape) == whole[2]
        one, other = iter(tape), iter(tape)
        assert [next(one), next(other), next(one)] == [
            whole[2][0],
            whole[2][0],
            whole[2][1],
        ]


def test_a_tape_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "live.tape"
    with TapeWriter(path, {}) as writer, TapeReader(path) as reader:
        for n in range(4):
            assert len(list(reader)) == n
            assert not reader.damage
            writer.append_batch(RECORDS[n : n + 1])


def test_a_tape_with_a_damaged_end_is_resumed_behind_it(tmp_path: Path) -> None:
    path = write(tmp_path / "bad_end.tape", RECORDS)
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with TapeWriter(path, {}, resume=True) as tape:
        tape.append_batch(RECORDS[:1])
    found, damage = read(path)
    assert plain(found) == [*RECORDS[:-1], RECORDS[0]]
    assert damage.regions == 1
    assert damage.torn_at is None


def test_a_tape_is_never_overwritten(whole: tuple[Path, bytes, list[Record]]) -> None:
    with pytest.raises(TapeError, match="exists"), TapeWriter(whole[0], {}):
        pass
    assert whole[0].read_bytes() == whole[1]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.tape"
    with TapeWriter(path, {}):
        with pytest.raises(TapeError), TapeWriter(path, {}, resume=True):
            pass


def test_a_batch_that_is_refused_leaves_the_tape_whole(tmp_path: Path) -> None:
    path = tmp_path / "batch.tape"
    bad = Record("det", (b"x",) * 70_000, 1, 1)
    with TapeWriter(path, {}) as tape:
        tape.append_batch(RECORDS[:2])
        with pytest.raises(TapeError, match="70000 parts"):
            tape.append_batch([RECORDS[2], bad])
        with pytest.raises(TapeError):
            tape.append("det", [b""], -1, 0)
        tape.append_batch(RECORDS[3:])
        assert tape.bytes == path.stat().st_size
    found, damage = read(path)
    assert plain(found) == RECORDS[:2] + RECORDS[3:]
    assert not damage


def test_a_full_disk_is_told_and_leaves_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "full.tape"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with TapeWriter(path, {}) as tape:
            tape.append("det", [b"kept"], 1, 1)
            resource.setrlimit(resource.RLIMIT_FSIZE, (tape.bytes + 100, hard))
            with pytest.raises(TapeError, match=r"full\.tape"):
                tape.append("det", [b"too long" * 100], 2, 2)
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            tape.append("det", [b"room again"], 3, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    found, damage = read(path)
    assert [r.parts for r in found] == [(b"kept",), (b"room again",)]
    assert not damage


@pytest.mark.parametrize(
    "header",
    [{"x": object()}, {"x": float("nan")}, {"x": "y" * (fmt.MAX_HEADER_BYTES + 1)}],
)
def test_a_header_must_be_small_json(tmp_path: Path, header: dict[str, object]) -> None:
    with pytest.raises(TapeError, match="header"), TapeWriter(tmp_path / "h", header):
        pass


@pytest.mark.parametrize("raw", [b"", b"PTYS", b"\x89HDF\r\n\x1a\n" + bytes(40)])
def test_what_is_no_tape_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(raw)
    with pytest.raises(TapeError, match="not a tape"), TapeReader(path):
        pass
    with pytest.raises(TapeError), TapeWriter(path, {}, resume=True):
        pass
    with pytest.raises(TapeError, match="No such file"), TapeReader(tmp_path / "none"):
        pass


def test_a_newer_version_is_refused(
    tmp_path: Path, whole: tuple[Path, bytes, list[Record]]
) -> None:
    path = tmp_path / "newer.tape"
    path.write_bytes(whole[1][:8] + b"\x09" + whole[1][9:])
    with pytest.raises(TapeError, match="version 9: this reads version 1"):
        read(path)


def test_strided_views_are_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "views.tape"
    view = memoryview(bytes(range(100)))
    with TapeWriter(path, {}, fsync_s=0.0) as tape:
        tape.append("det", [view[::2], view.cast("B", (10, 10))], 1, 1)
    found, _ = read(path)
    assert found[0].parts == (bytes(view[::2]), bytes(view))


def test_short_writes_are_finished() -> None:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    # With a time limit the kernel gives up a blocked write and says how far it came.
    limit = struct.pack("ll", 0, 100_000)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    sent = [b"", *(bytes([i]) * 1000 for i in range(200)), b""]
    got = bytearray()

    def read_slowly() -> None:
        while chunk := theirs.recv(4096):
            got.extend(chunk)
            time.sleep(0.01)

    thread = threading.Thread(target=read_slowly)
    thread.start()
    with theirs, ours:
        write_all(ours.fileno(), sent)
        ours.shutdown(socket.SHUT_WR)
        thread.join()
    assert got == b"".join(sent)


WRITER = """
import sys
from ptystream.tape.log import TapeWriter
with TapeWriter(sys.argv[1], {}) as tape:
    for i in range(10**9):
        tape.append("det", [str(i).encode(), b"x" * 5000], i, i)
        sys.stdout.write(f"{i}\\n")
        sys.stdout.flush()
"""


def test_after_sigkill_all_that_was_acknowledged_reads(tmp_path: Path) -> None:
    path = tmp_path / "killed.tape"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 300:
                process.kill()
                break
        acknowledged = 300 + sum(line.endswith("\n") for line in process.stdout)
    found, damage = read(path)
    assert len(found) >= acknowledged
    assert [r.mono_ns for r in found] == list(range(len(found)))
    assert damage.regions == 0
