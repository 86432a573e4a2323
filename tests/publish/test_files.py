import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptystream.errors import FileFormatError
from ptystream.publish.atomic import safe_name, write_atomic
from ptystream.publish.files import FileSink, Result, read_result, write_result
from ptystream.publish.history import COLUMNS, History
from ptystream.publish.runner import SinkThread
from ptystream.publish.sink import FrameCounts, RunEnd
from ptystream.recon.findings import Finding
from ptystream.recon.metrics import Frc
from ptystream.recon.snapshot import Quality

FRAMES = FrameCounts(received=3, lost={"a": 1, "b": 2})
END = RunEnd("complete", "converged", 1.0)


def result(snapshot) -> Result:
    shot = snapshot((2, 40, 56))
    return Result(
        object=shot.object,
        probe=shot.probe,
        pixel_m=shot.pixel_m,
        origin_m=shot.origin_m,
        coverage=shot.coverage,
        positions_m=np.arange(8.0).reshape(4, 2),
        history={"time_s": np.arange(3.0), "held_out_error": np.ones(3)},
        run="r",
        scan="s",
        seed=5,
        provenance={"configuration": {"a": [1, 2]}, "long": "x" * 200_000},
        quality=Quality(held_out_error=0.1, resolution_m=2e-8, converged=True),
        health=(Finding("positions lag", "by 2 frames", 0.9),),
        confidence=np.linspace(0, 1, 40 * 56, dtype=np.float32).reshape(40, 56),
        frc=Frc(np.arange(1.0, 4), np.array([1.0, 0.8, 0.1]), np.full(3, 30.0)),
    )


def test_what_is_written_is_read(tmp_path, snapshot):
    path = tmp_path / "deep" / "result.h5"
    write_result(path, result(snapshot))
    wrote, got = result(snapshot), read_result(path)
    for name in ("object", "probe", "coverage", "positions_m"):
        np.testing.assert_array_equal(getattr(got, name), getattr(wrote, name))
        assert getattr(got, name).dtype == getattr(wrote, name).dtype
    for name in ("pixel_m", "origin_m", "run", "scan", "seed", "version", "provenance"):
        assert getattr(got, name) == getattr(wrote, name)
    np.testing.assert_array_equal(got.confidence, wrote.confidence)
    assert asdict(got.quality) == pytest.approx(asdict(wrote.quality), nan_ok=True)
    assert got.quality.converged is True
    for name, column in asdict(wrote.frc).items():
        np.testing.assert_array_equal(getattr(got.frc, name), column)
    np.testing.assert_array_equal(got.history["time_s"], [0, 1, 2])
    assert [p.name for p in path.parent.iterdir()] == ["result.h5"]
    assert got.health == wrote.health


def test_the_layout_is_the_documented_one(tmp_path, snapshot):
    write_result(tmp_path / "r.h5", result(snapshot))
    with h5py.File(tmp_path / "r.h5") as file:
        assert file["object"].dtype == file["probe"].dtype == np.complex64
        assert file["object"].shape == (2, 40, 56)
        np.testing.assert_allclose(file["object"].attrs["pixel_size_m"], [1e-8, 1.2e-8])
        np.testing.assert_allclose(file["object"].attrs["origin_m"], [-1e-6, 2e-6])
        assert file.attrs["NX_class"] == "NXroot"
        assert file["history"].attrs["NX_class"] == "NXdata"
        assert file.attrs["default"] == "history"
        assert file["confidence"].dtype == np.float32
        np.testing.assert_allclose(file["confidence"].attrs["origin_m"], [-1e-6, 2e-6])
        assert file["quality"].attrs["resolution_m"] == 2e-8
        assert set(file["frc"]) == {
            "frequency_per_m",
            "correlation",
            "samples",
            "half_bit",
        }
        assert {"version", "seed", "run", "scan", "provenance"} <= set(file.attrs)


def test_a_truth_file_needs_only_object_probe_and_place(tmp_path, snapshot):
    bare = replace(
        result(snapshot),
        coverage=None,
        positions_m=None,
        history={},
        quality=None,
        confidence=None,
        frc=None,
    )
    write_result(tmp_path / "truth.h5", replace(bare, seed=None))
    got = read_result(tmp_path / "truth.h5")
    assert got.coverage is got.confidence is got.quality is got.frc is None
    assert got.positions_m is None
    assert got.seed is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.__delitem__("object"), "no dataset /object"),
        (lambda f: f.__delitem__("probe"), "no dataset /probe"),
        (lambda f: f["object"].attrs.__delitem__("origin_m"), "origin_m"),
        (lambda f: f["object"].attrs.__setitem__("pixel_size_m", 1.0), "expected"),
        (lambda f: f["object"].attrs.__setitem__("origin_m", [0, np.nan]), "expected"),
        (lambda f: f.attrs.__setitem__("provenance", "{"), "Expecting"),
        (lambda f: f.attrs.__setitem__("seed", "x"), "x"),
        (lambda f: (f.__delitem__("probe"), f.create_group("probe")), "/probe"),
        (
            lambda f: (f.__delitem__("object"), f.update(object=np.ones((4, 4)))),
            "3 axes",
        ),
        (
            lambda f: (f.__delitem__("coverage"), f.update(coverage=np.ones((4, 4)))),
            "/coverage",
        ),
        (lambda f: f["frc"].__delitem__("correlation"), "frc/correlation"),
        (lambda f: f["quality"].attrs.__setitem__("loss", "x"), "x"),
    ],
    ids=range(12),
)
def test_a_damaged_file_says_what_it_lacks(tmp_path, snapshot, damage, message):
    path = tmp_path / "r.h5"
    write_result(path, result(snapshot))
    with h5py.File(path, "a") as file:
        attributes = dict(file["object"].attrs)
        damage(file)
        if "object" in file and not file["object"].attrs:
            file["object"].attrs.update(attributes)
    with pytest.raises(FileFormatError, match=message) as caught:
        read_result(path)
    assert "r.h5" in str(caught.value)


def test_what_is_no_file_is_a_format_error(tmp_path):
    (tmp_path / "text.h5").write_text("hello")
    for name in ("text.h5", "none.h5"):
        with pytest.raises(FileFormatError, match=name):
            read_result(tmp_path / name)


def test_a_full_disk_leaves_the_old_file_and_no_part(tmp_path):
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from ptystream.publish.files import Result, read_result, write_result
path = Path(sys.argv[1])
def result(n):
    ones = np.ones((1, n, n), np.complex64)
    return Result(ones, ones, (1e-9, 1e-9), (0.0, 0.0))
write_result(path, result(8))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for _ in range(3):
    try:
        write_result(path, result(400))
    except OSError as error:
        print("refused", error.errno)
print(read_result(path).object.shape, [p.name for p in path.parent.iterdir()])
"""
    command = [sys.executable, "-c", code, str(tmp_path / "r.h5")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["refused 27"] * 3 + ["(1, 8, 8) ['r.h5']"]
    assert done.stderr == ""


def test_a_result_is_read_from_the_moment_it_has_its_name(
    tmp_path, snapshot, monkeypatch
):
    read = []
    rename = Path.replace

    def look(temporary: Path, path: Path) -> None:
        rename(temporary, path)
        read.append(read_result(path))  # its writer has not closed it yet

    monkeypatch.setattr(Path, "replace", look)
    write_result(tmp_path / "r.h5", result(snapshot))
    assert [found.run for found in read] == ["r"]


def test_a_failed_replacement_leaves_no_part(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_atomic(tmp_path / "taken", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


@given(st.text(max_size=200))
def test_no_name_leaves_its_folder(text):
    name = safe_name(text)
    assert name
    assert len(name) < 100
    assert not set(name) & set("/\\.\0 ")
    assert Path("folder", name).parent == Path("folder")


@given(st.text(max_size=20), st.text(max_size=20))
def test_distinct_uids_have_distinct_files(a, b):
    assert (safe_name(a) == safe_name(b)) == (a == b)


def test_the_sink_keeps_each_run(tmp_path, snapshot, info):
    sink = FileSink(tmp_path / "out")
    run = info("r/../1", "../../scan 1")
    sink.start(run)
    sink.update(snapshot(step=1), FRAMES)
    assert list((tmp_path / "out").iterdir()) == []
    sink.stop(snapshot(step=2), FRAMES, END)
    sink.close()
    got = read_result(sink.path(run))
    assert sink.path(run).parent == tmp_path / "out"
    assert got.run == "r/../1"
    assert got.seed == 3
    assert got.provenance["geometry"] == {"wavelength_m": 1e-10}
    np.testing.assert_array_equal(got.history["step"], [1, 2])
    np.testing.assert_array_equal(got.history["frames_lost"], [3, 3])


def test_the_sink_saves_now_and_then_and_on_demand(tmp_path, snapshot, info):
    now = [0.0]
    sink = FileSink(tmp_path, every_s=10, clock=lambda: now[0])
    sink.save()
    sink.start(info())
    path = sink.path(info())
    for now[0], saved in ((5.0, False), (10.0, True), (15.0, False), (20.0, True)):
        sink.update(snapshot(), FRAMES)
        assert path.exists() == saved
        path.unlink(missing_ok=True)
    sink.save()
    assert path.exists()


def test_nothing_reconstructed_is_nothing_saved(tmp_path, info):
    sink = FileSink(tmp_path)
    sink.start(info())
    sink.stop(None, FRAMES, END)
    assert list(tmp_path.iterdir()) == []


def test_who_asks_is_told_of_ends_that_are_on_disk(tmp_path, snapshot, info):
    """And of runs that left nothing: not of a result that could not be written."""
    told = []
    sink = FileSink(tmp_path / "out", kept=lambda run: told.append(run.run))
    for run, last in (("a", snapshot()), ("b", None)):
        sink.start(info(run))
        sink.stop(last, FRAMES, END)
    assert told == ["a", "b"]
    sink.start(info("c"))
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(OSError, match="not saved"):
        sink.stop(snapshot(), FRAMES, END)
    assert told == ["a", "b"]


def test_a_folder_that_cannot_be_is_counted_and_logged(
    tmp_path, snapshot, info, caplog
):
    (tmp_path / "file").write_text("in the way")
    with SinkThread(FileSink(tmp_path / "file" / "out")) as thread:
        thread.start(info())
        thread.stop(snapshot(), FRAMES, END)
    assert thread.stats().failures == 2
    assert str(tmp_path / "file") in caplog.text


@given(st.integers(0, 300), st.integers(2, 20))
def test_history_is_bounded_spans_the_run_and_keeps_the_newest(count, capacity):
    history = History(capacity)
    for step in range(count):
        history.add(float(step), _shot(step), FRAMES)
    columns = history.columns()
    assert set(columns) == set(COLUMNS)
    steps = columns["step"]
    assert len(steps) <= capacity + 1
    assert (np.diff(steps) > 0).all()
    if count:
        assert (steps[0], steps[-1]) == (0, count - 1)
        if len(steps) > 2:
            gaps = np.diff(steps)
            assert (gaps[:-1] == gaps[0]).all()
            assert gaps[-1] <= gaps[0]


def _shot(step):
    from ptystream.recon.snapshot import Snapshot

    one = np.ones((1, 2, 2), np.complex64)
    return Snapshot(
        object=one,
        probe=one,
        coverage=one[0].real,
        origin_m=(0.0, 0.0),
        pixel_m=(1e-9, 1e-9),
        positions_m=np.zeros((0, 2)),
        step=step,
        exposures=step,
    )
