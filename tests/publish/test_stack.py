import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptystream.errors import ConfigError
from ptystream.publish.sink import FrameCounts, RunEnd
from ptystream.publish.stack import StackRequest, StackSink, fitted

FRAMES = FrameCounts()
END = RunEnd("complete", "", 0.0)


@pytest.fixture
def sink(tmp_path):
    sink = StackSink(tmp_path, clock=lambda: 12.5)
    yield sink
    sink.close()


def test_snapshots_go_where_the_file_has_room_for_them(sink, info, snapshot):
    sink.start(info())
    sink.open(StackRequest("pictures", 4, 64))
    sink.take(3)
    for step in (5, 6):
        sink.update(snapshot(step=step), FRAMES)
    sink.stop(snapshot(step=7), FRAMES, END)
    sink.update(snapshot(step=8), FRAMES)  # not asked for
    assert sink.state.written == 3
    assert sink.state.error == ""
    path = Path(sink.state.path)
    assert path.name == "pictures_stack.h5"
    with h5py.File(path) as file:
        assert file["object"].shape == (4, 64, 64)
        assert file["object"].dtype == np.complex64
        expected = snapshot().object[0]
        np.testing.assert_array_equal(file["object"][2, :40, :56], expected)
        assert np.isnan(file["object"][2, 40:]).all()
        assert file["step"][:, 0].tolist() == [5, 6, 7, 0]
        assert file["held_out_error"][0, 0] == 0.25
        assert file["pixel_size_m"][1].tolist() == [10e-9, 12e-9]
        assert file["origin_m"][1].tolist() == [-1e-6, 2e-6]
        assert file["time"][0, 0] == 12.5


def test_it_can_be_read_while_it_is_written(sink, info, snapshot):
    sink.start(info())
    sink.open(StackRequest("s", 2, 64))
    sink.take(2)
    with h5py.File(sink.state.path) as file:
        sink.update(snapshot(step=9), FRAMES)
        assert file["object"].shape == (2, 64, 64)
    with h5py.File(sink.state.path) as file:
        assert file["step"][0, 0] == 9


def test_a_large_object_is_averaged_and_keeps_its_place(snapshot):
    plane, pixel_m, origin_m = fitted(snapshot((2, 40, 56)), 32)
    assert plane.shape == (32, 32)
    assert pixel_m == (20e-9, 24e-9)
    assert origin_m == pytest.approx((-1e-6 + 5e-9, 2e-6 + 6e-9))
    both = np.prod(snapshot((2, 40, 56)).object, axis=0)
    assert plane[0, 0] == pytest.approx(both[:2, :2].mean(), rel=1e-5)


def test_only_the_run_that_is_meant_is_taken(sink, info, snapshot):
    sink.start(info("run-1", "scan-1", bluesky_uid="other"))
    sink.open(StackRequest("s", 2, 64, uid="raw-1"))
    sink.take(2)
    sink.update(snapshot(), FRAMES)
    assert sink.state.written == 0
    sink.start(info("run-2", "scan-2", bluesky_uid="raw-1"))
    sink.update(snapshot(), FRAMES)
    assert sink.state.written == 1


def test_a_full_stack_takes_no_more(sink, info, snapshot):
    sink.start(info())
    sink.open(StackRequest("s", 1, 64))
    sink.take(5)
    for _ in range(3):
        sink.update(snapshot(), FRAMES)
    assert sink.state.written == 1


def test_its_name_can_not_leave_the_folder(sink, tmp_path):
    assert sink.path(StackRequest("../../etc/passwd", 1, 64)).parent == tmp_path


def test_too_much_is_refused_before_any_of_it_is_taken(sink, tmp_path):
    with pytest.raises(ConfigError, match="at most 1073741824"):
        sink.open(StackRequest("s", 100_000, 4096))
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_is_known_at_once(sink, tmp_path, monkeypatch, snapshot):
    def full(handle: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        sink.open(StackRequest("s", 4, 64))
    assert "No space left" in sink.state.error
    assert not list(tmp_path.iterdir())
    sink.update(snapshot(), FRAMES)
    assert sink.state.written == 0


def test_every_change_is_told(tmp_path, info, snapshot):
    told = []
    sink = StackSink(tmp_path, lambda: told.append(sink.state.written))
    sink.start(info())
    sink.open(StackRequest("s", 2, 64))
    sink.take(2)
    sink.update(snapshot(), FRAMES)
    assert told == [0, 1]
    sink.close()
