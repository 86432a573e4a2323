"""Each run's picture and page: made when the run stops, beside its result."""

from pathlib import Path

import pytest

from ptystream.publish.report_sink import ReportSink
from ptystream.publish.sink import FrameCounts, RunEnd, RunInfo

INFO = RunInfo("run-1", "scan-1", 0.0)
END = RunEnd("complete", "held-out quality stopped improving", 1.0)


def a_sink(folder: Path, *, page: bool = True) -> ReportSink:
    return ReportSink(lambda info: folder / f"{info.scan}_{info.run}.h5", page=page)


@pytest.mark.parametrize("page", [True, False])
def test_picture_and_page_are_made_when_the_run_stops(tmp_path: Path, snapshot, page):
    sink = a_sink(tmp_path, page=page)
    sink.start(INFO)
    sink.update(snapshot(), FrameCounts())
    assert not list(tmp_path.iterdir())
    sink.stop(snapshot(), FrameCounts(), END)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == (["scan-1_run-1.html"] if page else []) + ["scan-1_run-1.png"]
    assert (tmp_path / "scan-1_run-1.png").read_bytes()[:4] == b"\x89PNG"


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
