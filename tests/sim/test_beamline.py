import threading
import time
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import pytest
import zmq

from ptystream.errors import ConfigError
from ptystream.sim.beamline import Beamline
from ptystream.wire import native
from ptystream.wire.envelope import EncodedFrame
from ptystream.wire.messages import Heartbeat, Message, Samples, ScanEnd, ScanStart


class Readers:
    """Reads both streams on sockets of their own, until nothing comes any more."""

    def __init__(self, beamline: Beamline, kind: int = zmq.SUB) -> None:
        self._addresses = beamline.detector.address, beamline.encoder.address
        self._kind = kind
        self._finish = threading.Event()
        self.got: list[tuple[float, Message | EncodedFrame]] = []

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finish.set()
        self._thread.join()

    def _read(self) -> None:
        with zmq.Context() as context, context.socket(self._kind) as socket:
            if self._kind == zmq.SUB:
                socket.setsockopt(zmq.SUBSCRIBE, native.MAGIC)
            for address in self._addresses:
                socket.connect(address)
            while not self._finish.is_set() or socket.poll(300):
                if socket.poll(20):
                    message = native.decode(socket.recv_multipart()).message
                    self.got.append((time.monotonic(), message))

    def of(self, kind: type) -> list[Any]:
        return [message for _, message in self.got if isinstance(message, kind)]

    def firsts(self) -> list[ScanStart]:
        return [m for m in self.of(ScanStart) if not m.again]


def streamed(settings, **kwargs) -> tuple[Beamline, Readers, list]:
    with Beamline(settings) as beamline, Readers(beamline) as readers:
        reports = beamline.run(**kwargs)
    return beamline, readers, reports


@pytest.mark.parametrize("encoding", ["raw", "bslz4"])
def test_what_arrives_is_what_was_made(tiny, encoding):
    settings = tiny(detector={"encoding": encoding})
    beamline, readers, (report,) = streamed(settings)
    experiment = beamline.experiment
    frames = readers.of(EncodedFrame)
    assert [f.index for f in frames] == list(range(20))
    sent = list(experiment.frames(0))
    assert all(
        np.array_equal(f.decode().counts, c) for f, c in zip(frames, sent, strict=True)
    )
    samples = readers.of(Samples)
    assert [s.first for s in samples] == [0, 41, 82, 123, 164]
    rows = np.concatenate([s.position_m for s in samples])
    assert np.array_equal(rows, experiment.samples_m(0))
    ends = {e.stream: (e.reason, e.sent) for e in readers.of(ScanEnd)}
    assert ends == {"det": ("complete", 20), "pos": ("complete", 200)}
    assert report.detector.refused == report.encoder.refused == 0
    assert (report.detector.items, report.encoder.items) == (20, 200)


def test_starts_say_what_a_beamline_knows(tiny):
    beamline, readers, (report,) = streamed(tiny(stop_after=2))
    det, pos = sorted(readers.firsts(), key=lambda s: s.stream)
    assert det.scan == pos.scan == report.scan
    assert det.shape == (32, 32)
    assert det.dtype == "<u2"
    assert det.frames_expected == 20
    assert det.dwell_s == pytest.approx(0.005)
    assert det.geometry == beamline.experiment.geometry
    assert det.meta == beamline.experiment.meta


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, int | float):
        yield float(value)


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from keys(item)


def test_no_truth_on_the_wire(tiny):
    optics = {"outer_zone_m": 1e-7, "defocus_m": 137e-6, "mode_powers": (0.77, 0.23)}
    settings = tiny(
        optics=optics,
        scan={"shape": (1, 2), "rate_hz": 200.0, "jitter_m": 7.7e-9},
        seed=424242,
    )
    _, readers, _ = streamed(settings)
    for start in readers.of(ScanStart):
        secret = (137e-6, 0.2, 0.77, 0.23, 7.7e-9, 424242.0)
        assert not set(secret) & set(numbers(dict(start.meta)))
    allowed = {
        *("sample", "optics", "kind", "diameter_m", "outer_zone_m", "stop_m"),
        *("defocus_m", "scan", "pattern", "shape", "step_m", "snake"),
    }
    det = next(s for s in readers.firsts() if s.stream == "det")
    assert set(keys(dict(det.meta))) == allowed
    assert next(s for s in readers.firsts() if s.stream == "pos").meta == {}


def test_lines_come_in_bursts_and_positions_after_their_frames(tiny):
    settings = tiny(scan={"shape": (2, 5), "rate_hz": 100.0, "line_pause_s": 0.4})
    _, readers, (report,) = streamed(settings)
    frames = [(t, m) for t, m in readers.got if isinstance(m, EncodedFrame)]
    times = [t for t, _ in frames]
    # 10 ms within a line, 410 between lines: a loaded machine keeps the order.
    assert np.argmax(np.diff(times)) == 4
    arrived = {m.index: t for t, m in frames}
    for t, samples in readers.got:
        if isinstance(samples, Samples):
            assert t > arrived[(samples.first + len(samples.position_m) - 1) // 10]
    exposures = [(m.start_ns, m.stop_ns) for _, m in frames]
    assert exposures[:2] == [(0, 10_000_000), (10_000_000, 20_000_000)]
    assert exposures[5] == (450_000_000, 460_000_000)
    assert report.planned_hz == pytest.approx(9 / 0.49)


def test_scans_follow_each_other_under_new_names(tiny):
    settings = tiny(scan={"scans": 3, "gap_s": 0.0, "rate_hz": 500.0})
    beamline, readers, reports = streamed(settings)
    names = [r.scan for r in reports]
    assert len(set(names)) == 3
    assert [s.scan for s in readers.firsts() if s.stream == "det"] == names
    last = [f.decode().counts for f in readers.of(EncodedFrame) if f.scan == names[2]]
    assert np.array_equal(last, list(beamline.experiment.frames(2)))


def test_can_stop_short(tiny):
    _, readers, (report,) = streamed(tiny(stop_after=7, ending="aborted"))
    assert [f.index for f in readers.of(EncodedFrame)] == list(range(7))
    assert sum(len(s.position_m) for s in readers.of(Samples)) == 70
    assert {e.reason for e in readers.of(ScanEnd)} == {"aborted"}
    assert readers.firsts()[0].frames_expected == 20
    assert report.rate_hz is not None
    assert report.planned_hz == pytest.approx(6 / 0.05)
    assert report.frames_total == 7


def test_one_frame_has_no_rate(tiny):
    _, _, (report,) = streamed(tiny(stop_after=1))
    assert report.rate_hz is None
    assert report.detector.first_s == report.detector.last_s > 0


def test_can_fall_silent(tiny):
    scan = {"scans": 2, "gap_s": 1.2, "rate_hz": 500.0}
    _, readers, reports = streamed(tiny(stop_after=3, ending="quiet", scan=scan))
    assert len(reports) == 2
    assert len(readers.of(EncodedFrame)) == 6
    assert readers.of(ScanEnd) == []
    # Heartbeats are due every second: a dead sender has none.
    assert readers.of(Heartbeat) == []


def test_lives_on_between_scans(tiny):
    scan = {"shape": (1, 2), "scans": 2, "gap_s": 1.2, "rate_hz": 500.0}
    _, readers, _ = streamed(tiny(scan=scan))
    assert {b.stream for b in readers.of(Heartbeat)} == {"det", "pos"}


def test_a_stop_aborts_on_the_wire(tiny):
    settings = tiny(scan={"shape": (100, 5), "overlap": 0.97, "rate_hz": 20.0})
    seen: list[int] = []
    _, readers, (report,) = streamed(
        settings,
        stop=lambda: bool(seen) and seen[-1] >= 3,
        progress=lambda p: seen.append(p.frames),
    )
    assert {e.stream: e.reason for e in readers.of(ScanEnd)} == {
        "det": "aborted",
        "pos": "aborted",
    }
    assert 3 <= report.detector.items < 100
    assert len(readers.of(EncodedFrame)) == report.detector.items


def test_a_stop_before_the_start_sends_nothing(tiny):
    with Beamline(tiny()) as beamline:
        assert beamline.run(stop=lambda: True) == []


def test_plays_to_an_empty_house(tiny, caplog):
    with Beamline(tiny(wait_s=0.0)) as beamline:
        (report,) = beamline.run()
    assert "no reader of the detector or of the encoder" in caplog.text
    assert report.detector.items == 20


def test_pushes_too(tiny):
    with (
        Beamline(tiny(pattern="push")) as beamline,
        Readers(beamline, zmq.PULL) as readers,
    ):
        beamline.run()
    assert len(readers.of(EncodedFrame)) == 20
    assert len(readers.of(ScanEnd)) == 2


def test_keeps_going_when_it_can_prepare_only_part(tiny):
    scan = {"shape": (10, 20), "overlap": 0.97, "rate_hz": 5000.0}
    settings = tiny(scan=scan, detector={"ahead_frames": 64})
    _, readers, _ = streamed(settings)
    assert [f.index for f in readers.of(EncodedFrame)] == list(range(200))


def test_a_failing_maker_ends_the_run_loudly(tiny, monkeypatch):
    with Beamline(tiny()) as beamline, Readers(beamline) as readers:
        # The object shrinks behind the simulator's back: its windows leave it.
        monkeypatch.setattr(
            beamline.experiment.diffraction, "_slices", np.ones((1, 40, 40), complex)
        )
        with pytest.raises(ConfigError, match="leaves the canvas"):
            beamline.run()
    assert {e.reason for e in readers.of(ScanEnd)} <= {"aborted"}


def test_a_taken_address_is_said(tiny):
    with Beamline(tiny()) as beamline:
        settings = tiny(encoder={"address": beamline.encoder.address})
        with pytest.raises(ConfigError, match="can't bind"), Beamline(settings):
            pass


def test_progress_counts_up(tiny):
    seen: list[tuple[int, int]] = []
    streamed(tiny(), progress=lambda p: seen.append((p.frames, p.samples)))
    assert seen == sorted(seen)
    assert seen[-1] == (20, 200)
