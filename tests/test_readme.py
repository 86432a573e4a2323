"""Every snippet of the README is run, against real peers."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ptystream.ingest.endpoint import parse_endpoint
from ptystream.ingest.positions import PositionReader
from ptystream.ingest.process import ReceiverProcess
from ptystream.ingest.scans import ScanClosed, ScanTracker
from ptystream.publish.documents_schema import markdown
from ptystream.publish.files import Result, read_result, write_result
from ptystream.tape.cxi_write import write_cxi
from ptystream.wire.messages import Exposure, Geometry
from tests.recon.small_scan import SIZE, SmallScan

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(?:<!-- test: ([\w ]+) -->\n)?```(sh|python)\n(.*?)```", re.S)
GEOMETRY = Geometry(1.24e-10, 0.726, (75e-6, 75e-6))
PIXEL_M = GEOMETRY.object_pixel_m((SIZE, SIZE))[0]

pytestmark = pytest.mark.system


def snippets() -> dict[str, str]:
    found = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    return {name: text for name, _, text in found}


def commands(name: str, changes: dict[str, str]) -> list[list[str]]:
    """Return a shell snippet's commands, addresses and words changed."""
    lines = []
    for line in snippets()[name].splitlines():
        for old, new in changes.items():
            line = line.replace(old, new)
        words = shlex.split(line, comments=True)
        if words and words[0] == "ptystream":
            words = [sys.executable, "-m", "ptystream", *words[1:]]
        lines.append(words)
    return lines


def run(words: list[str], folder: Path) -> str:
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def a_free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def stream(frames_address: str, positions_address: str) -> threading.Thread:
    """Run the README's own sender in a thread."""
    scan = SmallScan()
    counts = np.zeros((len(scan.corners), 64, 64), np.uint16)
    counts[:, 20 : 20 + SIZE, 20 : 20 + SIZE] = scan.counts(2e5)
    exposures = list(zip(counts, scan.centres_px * PIXEL_M, strict=True))
    names = {
        "frames_address": frames_address,
        "positions_address": positions_address,
        "exposures": exposures,
    }
    thread = threading.Thread(target=exec, args=(snippets()["stream"], names))
    thread.start()
    return thread


def test_every_snippet_has_a_test():
    assert set(snippets()) == {
        "two commands",
        "serve",
        "watch",
        "stream",
        "reconstruct",
        "record",
        "bluesky demo",
        "bluesky session",
    }


def test_the_two_commands_are_there_to_run():
    for words in commands("two commands", {}):
        assert os.access(ROOT / words[0], os.X_OK), words


def test_streaming_your_own_frames():
    ports = a_free_port(), a_free_port()
    frames, positions = (f"tcp://127.0.0.1:{port}" for port in ports)
    det, pos = (parse_endpoint(f"ptys+sub://127.0.0.1:{port}") for port in ports)
    got: list[Exposure] = []
    tracker, closed = ScanTracker(), None
    with ReceiverProcess(det) as receiver, PositionReader(pos) as reader:
        sender = stream(frames, positions)
        deadline = time.monotonic() + 30
        while closed is None and time.monotonic() < deadline:
            now = time.monotonic()
            for message in (*receiver.drain(), *reader.poll(now)):
                for event in tracker.feed(message, now):
                    if isinstance(event, Exposure):
                        got.append(event)
                    closed = event if isinstance(event, ScanClosed) else closed
            time.sleep(0.005)
        sender.join(10)
    assert closed is not None
    assert closed.reason == "complete"
    assert len(got) == len(SmallScan().corners)


def test_reconstructing_a_file(tmp_path: Path):
    scan = SmallScan(lines=8)
    counts = scan.counts(2e5)
    write_cxi(tmp_path / "scan.cxi", counts, scan.centres_px * PIXEL_M, GEOMETRY)
    truth = Result(
        scan.object[None].astype(np.complex64),
        scan.probe[None].astype(np.complex64),
        (PIXEL_M, PIXEL_M),
        (0.0, 0.0),
    )
    write_result(tmp_path / "truth.h5", truth)
    reconstruct, score = commands("reconstruct", {"--seconds 60": "--seconds 3"})
    told = json.loads(run(reconstruct, tmp_path))
    assert told["held_out_error"] < 0.5 * told["flat_error"]
    assert read_result(tmp_path / "result.h5").object.ndim == 3
    assert Path(tmp_path / told["picture"]).stat().st_size > 10_000
    assert "PSNR" in run(score, tmp_path)


def test_recording_and_replaying(tmp_path: Path):
    det, pos = a_free_port(), a_free_port()
    changes = {"DETECTOR:5601": f"127.0.0.1:{det}", "ENCODERS:5602": f"127.0.0.1:{pos}"}
    record, replay = commands("record", changes)
    sender = stream(f"tcp://127.0.0.1:{det}", f"tcp://127.0.0.1:{pos}")
    told = run(record, tmp_path).splitlines()
    sender.join(10)
    recorded = json.loads(told[-1])
    assert recorded["dropped"] == 0
    assert recorded["written"] >= 2 * len(SmallScan().corners) + 3

    det, pos = a_free_port(), a_free_port()
    binds = [f"--detector=tcp://127.0.0.1:{det}", f"--positions=tcp://127.0.0.1:{pos}"]
    taps = [
        f"--detector=ptys+sub://127.0.0.1:{det}",
        f"--positions=ptys+sub://127.0.0.1:{pos}",
    ]
    again = [sys.executable, "-m", "ptystream", "record", "-o", "again.tape"]
    with subprocess.Popen([*replay, *binds], cwd=tmp_path) as replaying:
        told = run([*again, *taps, "--scans=1"], tmp_path).splitlines()
        assert replaying.wait(30) == 0
    assert json.loads(told[-1])["received"] >= 2 * len(SmallScan().corners) + 3


def test_serving(tmp_path: Path):
    det, pos = a_free_port(), a_free_port()
    changes = {
        "DETECTOR:5601": f"127.0.0.1:{det}",
        "ENCODERS:5602": f"127.0.0.1:{pos}",
        "/data/results": str(tmp_path),
    }
    (serve,) = commands("serve", changes)
    free = [f"--set=publish.{s}=tcp://127.0.0.1:0" for s in ("control", "status")]
    free += ["--set=publish.preview=tcp://127.0.0.1:0", "--set=refine.max_s=1"]
    free += ["--set=publish.metrics=127.0.0.1:0", "--scans=1"]
    with subprocess.Popen([*serve, *free], stdout=subprocess.PIPE) as service:
        assert json.loads(service.stdout.readline())["ready"]["http"]
        sender = stream(f"tcp://127.0.0.1:{det}", f"tcp://127.0.0.1:{pos}")
        told = json.loads(service.stdout.readline())
        sender.join(10)
        assert service.wait(30) == 0
    assert told["frames"]["paired"] == len(SmallScan().corners)
    assert read_result(Path(told["result"])).scan == "scan-7"


def test_watching(tmp_path):
    free = ("control", "preview", "status")
    words = [f"--set=publish.{name}=tcp://127.0.0.1:0" for name in free]
    words += ["--set=publish.metrics=127.0.0.1:0", f"--results={tmp_path}"]
    serve = [sys.executable, "-m", "ptystream", "serve", *words]
    (watch,) = commands("watch", {})
    with subprocess.Popen(serve, stdout=subprocess.PIPE) as service:
        try:
            ready = json.loads(service.stdout.readline())["ready"]
            where = [f"--{name}={ready[name]}" for name in ("status", "preview")]
            said = run([*watch, *where, "--once", "--timeout=30"], tmp_path)
        finally:
            service.terminate()
    assert "state idle" in said


@pytest.mark.timeout(120)
def test_bluesky_demo(tmp_path):
    (words,) = commands("bluesky demo", {})
    quick = ("--seconds", "4", "--json", "--results", str(tmp_path))
    done = subprocess.run(
        [*words, *quick], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["exit_status"] == "success"
    assert told["original_run_uid"] == told["raw_uid"] != told["derived_uid"]
    assert told["stopped_early"]
    assert told["reason"]


@pytest.mark.timeout(150)
def test_a_bluesky_session_prints_what_the_readme_says(tmp_path):
    text, settings = snippets()["bluesky session"], ["publish.metrics=127.0.0.1:0"]
    keys = {
        "5601": "detector.endpoint=ptys+sub",
        "5602": "positions.endpoint=ptys+sub",
        "5610": "publish.control=tcp",
        "5611": "publish.status=tcp",
    }
    for port, setting in keys.items():
        free = str(a_free_port())
        text = text.replace(port, free)
        settings.append(f"{setting}://127.0.0.1:{free}")
    settings += ["publish.preview=tcp://127.0.0.1:0", "publish.every_s=0.2"]
    words = [f"--set={s}" for s in settings] + [f"--results={tmp_path}"]
    serve = [sys.executable, "-m", "ptystream", "serve", *words]
    with subprocess.Popen(serve, stdout=subprocess.PIPE) as service:
        try:
            assert service.stdout.readline()
            done = subprocess.run(
                [sys.executable, "-c", text],
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            service.terminate()
    assert done.returncode == 0, done.stderr
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    said = readme.split("<!-- prints -->\n```text\n")[1].split("```")[0]
    figures = re.compile(r"0\.0\d+ ")  # the one that differs from run to run
    assert figures.sub("", done.stdout) == figures.sub("", said)


def test_the_table_of_the_documents_keys_is_the_schema():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.split("<!-- schema -->\n")[1].split("\n<!-- schema ends -->")[0]
    assert table == markdown()
