import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptystream.errors import ConfigError, StoppedError
from ptystream.publish import tiled_sink
from ptystream.publish.runner import SinkThread
from ptystream.publish.sink import FrameCounts, RunEnd
from ptystream.publish.tiled_sink import SHOWN, TiledSink
from ptystream.recon.findings import Finding

pytest.importorskip("tiled.server")
import dask.config
from tiled.client import from_uri

from .tiled_server import KEY, TiledProcess

FRAMES = FrameCounts(expected=9, received=5, lost={"ring_full": 2})
END = RunEnd("complete", "converged", 1.0)


@pytest.fixture(scope="module")
def server() -> Iterator[TiledProcess]:
    with TiledProcess() as process:
        yield process


@pytest.fixture(autouse=True)
def read_without_threads() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    path.chmod(0o600)
    return path


@contextlib.contextmanager
def client(server: TiledProcess) -> Iterator[Any]:
    root = from_uri(server.uri, api_key=KEY)
    try:
        yield root
    finally:
        root.context.close()


def metadata(server: TiledProcess, path: str) -> dict[str, Any]:
    with client(server) as root:
        return dict(root[path].metadata)


def wait_for(server, path, key, wanted, timeout_s=60.0):
    """Wait until a node's metadata say so, whether or not the node is there yet."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        with contextlib.suppress(KeyError):
            if metadata(server, path).get(key) == wanted:
                return
        time.sleep(0.05)
    raise AssertionError(f"{path} never had {key} = {wanted}")


def test_a_run_forms_and_completes(server, key_file, info, snapshot):
    now_s = [0.0]
    small = snapshot((1, 40, 56))
    found = Finding("positions lag", "start them with the first frame", 0.93)
    sure = np.full((60, 300), 0.5, np.float32)
    large = snapshot((1, 60, 300), step=8, confidence=sure, health=(found,))
    sink = TiledSink(
        server.uri,
        "beamline/live",
        key_file,
        full_every_s=5,
        preview_px=32,
        clock=lambda: now_s[0],
    )
    with closing(sink), client(server) as root:
        sink.start(info("whole", "scan", uid="raw-uid", sample="siemens"))
        run = root["beamline/live/whole"]
        assert run.metadata["complete"] is False
        assert run.metadata["original_run_uid"] == "raw-uid"
        assert run.metadata["raw_uid"] == "raw-uid"
        assert run.metadata["sample"] == "siemens"
        assert [(s.name, s.version) for s in run.specs] == [("ptystream", "1")]
        now_s[0] = 2.0
        sink.update(small, FRAMES)
        assert set(run["live"]) == set(SHOWN)
        check_preview(run["live/object_phase"])
        now_s[0] = 6.0
        sink.update(small, FRAMES)
        now_s[0] = 12.0
        sink.update(large, FRAMES)
        assert run["live/object_phase"].metadata["shape"] == [6, 30]
        whole = run["live/object"]
        assert whole.shape == (1, 256, 512)
        assert whole.metadata["shape"] == [1, 60, 300]
        np.testing.assert_array_equal(whole.read()[:, :60, :300], large.object)
        now_s[0] = 13.0
        sink.stop(large, FRAMES, END)
        check_final(root["beamline/live/whole"], large)


def check_preview(phase):
    assert phase.shape == (32, 32)
    assert phase.dtype == np.float32
    assert phase.metadata["shape"] == [20, 28]
    assert phase.metadata["pixel_m"] == [20e-9, 24e-9]
    shown = phase.read()
    assert np.isfinite(shown[:20, :28]).all()
    assert np.isnan(shown[20:]).all()
    assert np.isnan(shown[:, 28:]).all()


def check_final(run, snapshot):
    assert run.metadata["complete"] is True
    assert run.metadata["exit_status"] == "success"
    assert run.metadata["object_pixel_m"] == [10e-9, 12e-9]
    assert run.metadata["frames"]["lost"] == {"ring_full": 2}
    final = run["final"]
    assert set(final) == {"object", "probe", "coverage", "confidence", "positions_m"}
    assert (final["confidence"].read() == 0.5).all()
    assert run.metadata["health"] == [
        {
            "fault": "positions lag",
            "detail": "start them with the first frame",
            "sure": 0.93,
        }
    ]
    np.testing.assert_array_equal(final["object"].read(), snapshot.object)
    np.testing.assert_array_equal(final["probe"].read(), snapshot.probe)
    assert final["object"].dtype == np.complex64
    history = run["history"].read()
    assert list(history["time_s"]) == [2.0, 6.0, 12.0, 13.0]
    assert list(history["held_out_error"]) == [0.25] * 4


def test_previews_keep_their_pace(server, key_file, info, snapshot):
    now_s = [0.0]
    sink = TiledSink(server.uri, key_file=key_file, every_s=1.0, clock=lambda: now_s[0])
    with closing(sink), client(server) as root:
        sink.start(info("paced"))
        steps = []
        for tenth in range(21):
            now_s[0] = tenth / 10
            sink.update(snapshot(step=tenth), FRAMES)
            steps.append(root["ptystream/paced"].metadata["step"])
    assert sorted(set(steps)) == [0, 10, 20]


def test_what_is_too_large_is_left_out_and_named(server, key_file, info, snapshot):
    sink = TiledSink(server.uri, key_file=key_file, max_mib=1)
    with closing(sink), client(server) as root:
        sink.start(info("large"))
        sink.stop(snapshot((1, 400, 400)), FRAMES, END)
        final = root["ptystream/large/final"]
        assert set(final) == {"probe", "coverage", "positions_m"}
        assert final.metadata["left_out"] == ["object: 1.2 MiB"]


def test_a_run_without_a_snapshot_completes_as_failed(server, key_file, info):
    sink = TiledSink(server.uri, key_file=key_file)
    with closing(sink), client(server) as root:
        sink.start(info("nothing"))
        sink.stop(None, FRAMES, RunEnd("timed out", "", 0.0))
        run = root["ptystream/nothing"]
        assert run.metadata["complete"] is True
        assert run.metadata["exit_status"] == "fail"
        assert "final" not in run


def test_keys_are_refused_where_others_see_them_and_never_told(
    server, key_file, info, caplog
):
    for uri in (f"{server.uri}?api_key={KEY}", f"http://me:{KEY}@127.0.0.1:1"):
        with pytest.raises(ConfigError, match="TILED_API_KEY") as told:
            TiledSink(uri)
        assert KEY not in str(told.value)
    key_file.write_text("wrong" + KEY)
    with SinkThread(TiledSink(server.uri, key_file=key_file)) as thread:
        thread.start(info("refused"))
        while not thread.stats().failures:
            time.sleep(0.01)
    assert "401" in caplog.text
    assert KEY not in caplog.text
    key_file.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        TiledSink(server.uri, key_file=key_file)


def test_without_a_key_the_error_says_where_to_put_one(server, info, monkeypatch):
    monkeypatch.delenv("TILED_API_KEY", raising=False)
    with pytest.raises(StoppedError, match="TILED_API_KEY"):
        TiledSink(server.uri).start(info())


def test_the_key_may_come_from_the_environment(server, info, monkeypatch):
    monkeypatch.setenv("TILED_API_KEY", KEY)
    sink = TiledSink(server.uri)
    sink.start(info("environment"))
    sink.close()
    assert metadata(server, "ptystream/environment")["complete"] is False


@pytest.mark.parametrize("uri", ["127.0.0.1:8000", "ftp://host", "http://"])
def test_what_is_no_address_is_refused(uri):
    with pytest.raises(ConfigError, match=r"publish\.tiled\.uri"):
        TiledSink(uri)


@pytest.mark.system
@pytest.mark.timeout(200)
def test_a_server_that_dies_and_returns_costs_its_own_count_only(
    key_file, info, snapshot, monkeypatch
):
    monkeypatch.setattr(tiled_sink, "FULL_S", 20.0)
    with TiledProcess() as server:
        sink = TiledSink(server.uri, key_file=key_file, every_s=0.01, full_every_s=0.01)
        with SinkThread(sink) as thread:
            thread.start(info("survivor"))
            thread.update(snapshot(step=1), FRAMES)
            wait_for(server, "ptystream/survivor", "step", 1)
            server.kill()
            handed_s, failures = [], thread.stats().failures
            while thread.stats().failures < failures + 3:
                began_s = time.perf_counter()
                thread.update(snapshot(step=2), FRAMES)
                handed_s.append(time.perf_counter() - began_s)
                time.sleep(0.02)
            assert max(handed_s) < 0.05, "a dead server held up whoever hands over"
            server.serve()
            server.wait()
            thread.update(snapshot(step=3), FRAMES)
            wait_for(server, "ptystream/survivor", "step", 3)
            with client(server) as root:
                assert len(root["ptystream/survivor/history"].read()) > 3
            thread.stop(snapshot(step=4), FRAMES, END)
            wait_for(server, "ptystream/survivor", "complete", True)


@pytest.mark.slow  # two servers come up one after another: 20 s
def test_a_final_that_failed_is_written_when_the_next_run_starts(
    key_file, info, snapshot
):
    with TiledProcess() as server:
        sink = TiledSink(server.uri, key_file=key_file)
        sink.start(info("first"))
        server.kill()
        with pytest.raises(StoppedError):
            sink.stop(snapshot(), FRAMES, END)
        server.serve()
        server.wait()
        sink.start(info("second"))
        sink.close()
        assert metadata(server, "ptystream/first")["complete"] is True
        assert metadata(server, "ptystream/second")["complete"] is False


def test_a_server_that_never_answers_is_given_up(info, monkeypatch):
    monkeypatch.setattr("ptystream.publish.tiled_client.ANSWER_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        began_s = time.monotonic()
        with pytest.raises(StoppedError, match="no Tiled"):
            TiledSink(f"http://127.0.0.1:{mute.getsockname()[1]}").start(info())
        assert time.monotonic() - began_s < 3


def test_threads_of_the_sink_end_with_it(server, key_file, info, snapshot):
    before = threading.active_count()
    with SinkThread(TiledSink(server.uri, key_file=key_file)) as thread:
        thread.start(info("ended"))
        thread.stop(snapshot(), FRAMES, END)
    assert thread.stats().failures == 0
    assert threading.active_count() <= before
