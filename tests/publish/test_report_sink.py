"""Each run's picture: drawn when the run stops, beside its result."""

from pathlib import Path

import pytest

from ptystream.publish.picture_sink import PictureSink
from ptystream.publish.sink import FrameCounts, RunEnd, RunInfo

INFO = RunInfo("run-1", "scan-1", 0.0)
END = RunEnd("complete", "held-out quality stopped improving", 1.0)


def a_sink(folder: Path) -> PictureSink:
    return PictureSink(lambda info: folder / f"{info.scan}_{info.run}.h5")


def test_a_picture_is_drawn_when_the_run_stops(tmp_path: Path, snapshot):
    sink = a_sink(tmp_path)
    sink.start(INFO)
    sink.update(snapshot(), FrameCounts())
    assert not list(tmp_path.iterdir())
    sink.stop(snapshot(), FrameCounts(), END)
    (drawn,) = tmp_path.iterdir()
    assert drawn.name == "scan-1_run-1.png"
    assert drawn.read_bytes()[:4] == b"\x89PNG"


def test_nothing_reconstructed_is_nothing_drawn(tmp_path: Path):
    sink = a_sink(tmp_path)
    sink.start(INFO)
    sink.stop(None, FrameCounts(), END)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_is_an_error_for_the_runner_to_count(
    tmp_path: Path, snapshot
):
    (tmp_path / "file").write_text("in the way")
    sink = a_sink(tmp_path / "file")
    sink.start(INFO)
    with pytest.raises(OSError, match="file"):
        sink.stop(snapshot(), FrameCounts(), END)
