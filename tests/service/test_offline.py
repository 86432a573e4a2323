import time

import numpy as np
import pytest
import torch

from ptystream.errors import FileFormatError, TapeError
from ptystream.service.offline import (
    Acquired,
    half,
    load,
    reconstruct,
    training_threads,
)
from ptystream.service.scan import Extras
from ptystream.tape.cxi_write import write_cxi
from ptystream.tape.log import TapeWriter
from ptystream.wire import native
from ptystream.wire.messages import Message, Samples, ScanEnd, ScanStart
from tests.recon.small_scan import SIZE, SmallScan
from tests.service.exposures import GEOMETRY, PIXEL_M, START, config, exposures


def test_halves_are_by_index_and_make_the_whole():
    taken = exposures()[3:]
    even, odd = half(taken, "even"), half(taken, "odd")
    assert {e.frame.index % 2 for e in even} == {0}
    assert {e.frame.index % 2 for e in odd} == {1}
    assert sorted([*even, *odd], key=lambda e: e.frame.index) == taken


def test_a_scan_is_refined_until_time_is_up_and_progress_is_told():
    said = []
    scan = Acquired(START, exposures(), Extras(probe=SmallScan().probe[None]))
    threads = torch.get_num_threads()
    run, snapshot, end = reconstruct(
        scan, config("refine.max_s=1.3"), run="r", progress=said.append
    )
    assert torch.get_num_threads() == threads
    assert end.reason == "complete"
    assert snapshot is not None
    assert snapshot.exposures == 36
    assert snapshot.quality.held_out_error < 0.2 * snapshot.quality.flat_error
    assert len(said) == 1
    assert 1 <= said[0].seconds < 5
    assert run.info.run == "r"


def test_the_store_grows_to_hold_the_whole_scan():
    scan = Acquired(START, exposures())
    run, snapshot, _ = reconstruct(scan, config("engine.store=16"), run="r")
    assert run.recon is not None
    assert run.recon.store_stats().evicted == 0
    assert snapshot is not None
    assert len(snapshot.positions_m) == 36


@pytest.mark.parametrize(
    ("told", "patient"), [((), True), (("probe.patient=false",), False)]
)
def test_the_probe_waits_unless_told_not_to(told, patient):
    scan = Acquired(START, exposures())
    run, _, _ = reconstruct(scan, config("refine.max_s=0", *told), run="r")
    assert run.config.probe.patient == patient
    assert run.info.provenance["config"]["probe"]["patient"] == patient


def test_it_can_be_stopped():
    began_s = time.monotonic()
    _, snapshot, end = reconstruct(
        Acquired(START, exposures()),
        config("refine.max_s=60"),
        run="r",
        stop=lambda: time.monotonic() - began_s > 0.3,
    )
    assert time.monotonic() - began_s < 20
    assert end.refined == "stopped by the user"
    assert snapshot is not None


def test_threads_are_put_back_after_an_error():
    before = torch.get_num_threads()

    def fail() -> None:
        assert torch.get_num_threads() == before + 1
        raise KeyError

    with pytest.raises(KeyError), training_threads(before + 1):
        fail()
    assert torch.get_num_threads() == before


def tape_of(path, *messages: Message):
    with TapeWriter(path, {}) as tape:
        for number, message in enumerate(messages):
            stream = "pos" if isinstance(message, Samples) else "det"
            parts = [bytes(p) for p in native.encode(message, seq=number, sent_ns=0)]
            tape.append(stream, parts, number, number)
    return path


def scan_messages(scan: str, frames: int = 10) -> list[Message]:
    taken = exposures(scan)[:frames]
    rows = np.array([e.mean_m for e in taken])
    return [
        ScanStart(scan, "det", (SIZE, SIZE), "<u2"),
        *(e.frame for e in taken),
        Samples(scan, 0, 1, rows),
        ScanEnd(scan, "det", "complete", frames),
    ]


def test_a_tapes_scans_are_found_by_uid_whatever_their_order(tmp_path):
    path = tape_of(tmp_path / "t", *scan_messages("a"), *scan_messages("b", 7))
    assert load(path).start.scan == "a"
    second = load(path, scan="b")
    assert second.start.scan == "b"
    assert [e.frame.index for e in second.exposures] == list(range(7))
    assert {e.frame.scan for e in second.exposures} == {"b"}


def test_positions_of_later_or_earlier_frames_are_taken_as_told(tmp_path):
    small = SmallScan()
    tape = tape_of(tmp_path / "t", *scan_messages("a", 36))
    cxi = tmp_path / "scan.cxi"
    write_cxi(cxi, small.counts(1e5), small.centres_px * PIXEL_M, GEOMETRY)
    for path in (tape, cxi):
        plain = {e.frame.index: e.mean_m for e in load(path).exposures}
        assert len(plain) == 36
        for lag in (2, -3):
            told = load(path, config=config(f"positions.lag={lag}"))
            found = {e.frame.index: e.mean_m for e in told.exposures}
            assert found == {i - lag: m for i, m in plain.items() if 0 <= i - lag < 36}


def test_a_tape_without_the_scan_is_refused(tmp_path):
    path = tape_of(tmp_path / "t", *scan_messages("a"))
    with pytest.raises(FileFormatError, match="no exposure of scan z"):
        load(path, scan="z")
    with pytest.raises(FileFormatError, match="share their indices"):
        load(tape_of(tmp_path / "u", *scan_messages("a")[:-2]))
    (tmp_path / "text").write_text("no tape at all")
    with pytest.raises(TapeError):
        load(tmp_path / "text")


def test_a_cxi_file_brings_its_probe_and_its_mask(tmp_path):
    small = SmallScan()
    path = tmp_path / "scan.cxi"
    mask = np.ones((SIZE, SIZE), bool)
    mask[3, 4] = False
    write_cxi(
        path,
        small.counts(1e5),
        small.centres_px * PIXEL_M,
        GEOMETRY,
        mask=mask,
        illumination=small.probe[None].astype(np.complex64),
    )
    scan = load(path)
    assert [e.frame.index for e in scan.exposures] == list(range(36))
    assert scan.exposures[5].mean_m == pytest.approx(
        tuple(small.centres_px[5] * PIXEL_M)
    )
    assert scan.extras.mask is not None
    assert not scan.extras.mask[3, 4]
    assert scan.extras.probe is not None
    assert scan.extras.probe.shape == (1, SIZE, SIZE)
    assert scan.start.geometry is not None


def test_the_same_exposures_give_the_same_object_where_time_is_counted_in_steps():
    scan = Acquired(START, exposures(), Extras(probe=SmallScan().probe[None]))
    told = config("engine.deterministic=true", "engine.threads=1", "refine.max_s=2.5")
    made = []
    for pause_s in (0.0, 0.01):  # a slower machine looks at other times
        _, snapshot, end = reconstruct(
            scan, told, run="r", stop=lambda s=pause_s: time.sleep(s) or False
        )
        assert snapshot is not None
        made.append((snapshot.step, end.refined, snapshot.object, snapshot.probe))
    one, two = made
    assert one[:2] == two[:2]
    assert np.array_equal(one[2], two[2])
    assert np.array_equal(one[3], two[3])
