import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptystream.config import Config
from ptystream.errors import ConfigError, FileFormatError
from ptystream.service import export as module
from ptystream.service.export import export, export_growing
from ptystream.tape import cxi
from ptystream.tape.cxi import CxiScan
from ptystream.tape.faults import Faults, FaultyTape
from ptystream.tape.format import Record
from ptystream.tape.log import TapeReader, TapeWriter
from ptystream.wire import native
from ptystream.wire.envelope import EncodedFrame
from ptystream.wire.messages import Calibration, Frame, ScanStart
from tests.tape.scan_records import GEOMETRY, PIXELS, messages, records

CONFIG = Config()


def tape(path: Path, found: list[Record]) -> Path:
    with TapeWriter(path, {}) as writer:
        writer.append_batch(found)
    return path


def exported(source: Path, out: Path, **how):
    with TapeReader(source) as reader:
        return export(reader, out, CONFIG, **how)


def counts(path: Path) -> dict[int, np.ndarray]:
    with CxiScan(path) as scan, h5py.File(path) as file:
        numbers = file["/entry_1/instrument_1/detector_1/sequence_number"][:]
        frames = (frame.counts for frame in scan.frames())
        return dict(zip(numbers.tolist(), frames, strict=True))


def test_a_tape_becomes_a_file_with_its_payloads_as_they_came(tmp_path: Path) -> None:
    source = tape(tmp_path / "a.tape", records(30))
    done = exported(source, tmp_path / "a.cxi")
    assert (done.scan, done.frames, done.copied, done.no_position) == ("s", 30, 30, 0)
    found = counts(tmp_path / "a.cxi")
    for i in range(30):
        assert (found[i] == PIXELS + i).all()
    with CxiScan(tmp_path / "a.cxi") as scan:
        assert scan.positions_m == pytest.approx(np.arange(60.0).reshape(30, 2) * 1e-9)
        assert scan.geometry.wavelength_m == pytest.approx(GEOMETRY.wavelength_m)
    with h5py.File(tmp_path / "a.cxi") as file, TapeReader(source) as reader:
        chunk = file[cxi.DATA[1]].id.read_direct_chunk((0, 0, 0))[1]
        payloads = [bytes(r.parts[2]) for r in reader if len(r.parts) == 3]
        assert chunk in payloads


def test_other_encodings_are_compressed_anew(tmp_path: Path) -> None:
    plain = [
        Record(stream, tuple(map(bytes, native.encode(m, seq=i, sent_ns=1))), i, 0)
        for i, (stream, m) in enumerate(messages(12))
    ]
    done = exported(tape(tmp_path / "a.tape", plain), tmp_path / "a.cxi")
    assert (done.frames, done.copied) == (12, 0)
    assert (counts(tmp_path / "a.cxi")[3] == PIXELS + 3).all()


def test_frames_without_a_position_are_named_and_left_out(tmp_path: Path) -> None:
    found = records(30)
    kept = [r for r in found if r is not found[13]]  # the second batch of positions
    assert b"pos/pos" in found[13].parts[0]
    done = exported(tape(tmp_path / "a.tape", kept), tmp_path / "a.cxi")
    assert done.left_out == list(range(10, 20))
    assert (done.frames, done.no_position) == (20, 10)
    assert sorted(counts(tmp_path / "a.cxi")) == [*range(10), *range(20, 30)]


def test_damage_and_duplicates_cost_only_themselves(tmp_path: Path) -> None:
    faults = Faults(duplicate=0.3, reorder=0.2, jitter_s=0.01, seed=1)
    found = list(FaultyTape(records(60), faults))
    which = next(i for i, r in enumerate(found) if len(r.parts) == 3)
    topic, head, blob = found[which].parts
    torn = bytes(blob[:20]) + b"\xff" * (len(blob) - 20)
    found[which] = Record("det", (topic, head, torn), found[which].mono_ns, 0)
    done = exported(tape(tmp_path / "a.tape", found), tmp_path / "a.cxi")
    assert done.bad == 1
    assert done.frames == 59
    assert done.no_position == 0  # a copy isn't a loss
    got = counts(tmp_path / "a.cxi")
    assert all((pixels == PIXELS + i).all() for i, pixels in got.items())


def test_one_of_several_scans(tmp_path: Path) -> None:
    both = [*records(10, "one"), *records(20, "two", at_ns=10**9)]
    source = tape(tmp_path / "a.tape", both)
    assert exported(source, tmp_path / "1.cxi").scan == "one"
    done = exported(source, tmp_path / "2.cxi", scan="two")
    assert (done.scan, done.frames) == ("two", 20)
    with pytest.raises(FileFormatError, match="no exposure of scan three"):
        exported(source, tmp_path / "3.cxi", scan="three")
    assert not (tmp_path / "3.cxi").exists()


def test_a_geometry_that_nobody_knows_is_asked_for(tmp_path: Path) -> None:
    found = records(5)
    start = native.encode(ScanStart("s", "det", (8, 8), "<u2", 5), seq=0, sent_ns=1)
    found[0] = Record("det", tuple(map(bytes, start)), 0, 0)
    source = tape(tmp_path / "a.tape", found)
    with pytest.raises(ConfigError, match="geometry"):
        exported(source, tmp_path / "a.cxi")
    assert list(tmp_path.iterdir()) == [source]


def test_a_pixel_mask_of_the_stream_goes_into_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = np.zeros((8, 8), np.uint32)
    dead[2, 3] = 4
    whole = module.RecordedScans.__iter__

    def with_mask(self):
        yield Calibration("s", "pixel_mask", dead)
        yield from whole(self)

    monkeypatch.setattr(module.RecordedScans, "__iter__", with_mask)
    exported(tape(tmp_path / "a.tape", records(5)), tmp_path / "a.cxi")
    with CxiScan(tmp_path / "a.cxi") as scan:
        assert scan.mask is not None
        assert (scan.mask == (dead == 0)).all()


def test_a_growing_tape_is_exported_while_it_is_recorded(tmp_path: Path) -> None:
    source, out = tmp_path / "a.tape", tmp_path / "a.cxi"
    opened, half_seen = threading.Event(), threading.Event()

    def record() -> None:
        found = records(200)
        with TapeWriter(source, {}) as writer:
            writer.append_batch(found[:120])
            opened.set()
            half_seen.wait(20)
            writer.append_batch(found[120:])

    recorder = threading.Thread(target=record)
    recorder.start()
    assert opened.wait(10)
    done = []

    def follow() -> None:
        with TapeReader(source) as reader:
            done.append(export_growing(reader, out, CONFIG))

    follower = threading.Thread(target=follow)
    follower.start()
    try:
        wait_for_frames(out, 100)
    finally:
        half_seen.set()
        follower.join(30)
        recorder.join(30)
    assert (done[0].frames, done[0].no_position) == (200, 0)
    assert sorted(counts(out)) == list(range(200))


def wait_for_frames(path: Path, at_least: int) -> None:
    clock = threading.Event()
    for _ in range(1000):
        clock.wait(0.02)
        if path.exists():
            # The same process holds the file: HDF5 lets it be opened once more.
            with h5py.File(path, "r", libver="latest", swmr=True) as file:
                if len(file[cxi.DATA[1]]) >= at_least:
                    return
    pytest.fail(f"fewer than {at_least} frames")


def test_what_waits_for_positions_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = records(40)
    positions = [r for r in found if r.stream == "pos" and b"pos/pos" in r.parts[0]]
    late = [r for r in found if r not in positions]
    late[-2:-2] = positions
    monkeypatch.setattr(module, "HELD_BYTES", 10 * len(bytes(found[3].parts[2])))
    source = tape(tmp_path / "a.tape", late)
    with TapeReader(source) as reader:
        done = export_growing(reader, tmp_path / "a.cxi", CONFIG)
    assert done.frames + done.no_position == 40
    assert 5 < done.frames < 15
    assert exported(source, tmp_path / "b.cxi").frames == 40  # read twice: all


def test_a_frame_of_another_shape_is_left_out(tmp_path: Path) -> None:
    odd = native.encode(Frame("s", 4, np.ones((4, 4), np.uint16)), seq=1, sent_ns=1)
    found = records(10)
    which = next(
        i
        for i, r in enumerate(found)
        if isinstance(m := native.decode(r.parts).message, EncodedFrame)
        and m.index == 4
    )
    found[which] = Record("det", tuple(map(bytes, odd)), found[which].mono_ns, 0)
    done = exported(tape(tmp_path / "a.tape", found), tmp_path / "a.cxi")
    assert done.frames == 9
    assert 4 not in counts(tmp_path / "a.cxi")
