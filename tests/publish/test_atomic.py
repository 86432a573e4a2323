import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ptystream.publish.atomic import sweep, write_atomic

SIZE = 256 << 20
"""Takes some tenths of a second to write: long enough to be stopped in between."""
WRITER = f"""
import sys
from pathlib import Path
from ptystream.publish.atomic import write_atomic
content = bytes({SIZE})
while True:
    write_atomic(Path(sys.argv[1]), content)
"""


@contextmanager
def interrupted(path: Path) -> Iterator[subprocess.Popen]:
    """A process that stands still in the middle of writing this file."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)]) as writer:
        try:
            deadline_s = time.monotonic() + 30
            while not unfinished(path.parent):
                writer.send_signal(signal.SIGCONT)
                while not unfinished(path.parent):
                    assert time.monotonic() < deadline_s, "it never wrote"
                writer.send_signal(signal.SIGSTOP)
                time.sleep(0.05)  # until it stands
            yield writer
        finally:
            writer.kill()


def unfinished(folder: Path) -> list[Path]:
    return list(folder.glob(".*.part"))


def test_what_a_killed_writer_left_is_swept_and_what_a_living_one_writes_stays(
    tmp_path,
):
    path = tmp_path / "result.h5"
    write_atomic(path, b"old")
    with interrupted(path) as writer:
        assert sweep(tmp_path) == 0
        assert len(unfinished(tmp_path)) == 1
        writer.kill()
        writer.wait(10)
        assert len(unfinished(tmp_path)) == 1
        assert sweep(tmp_path) == 1
    assert unfinished(tmp_path) == []
    assert path.exists()


def test_a_file_that_is_not_one_of_ours_stays(tmp_path):
    kept = [tmp_path / name for name in ("result.h5", "a.part", ".hidden")]
    for path in kept:
        path.touch()
    assert sweep(tmp_path) == 0
    assert all(path.exists() for path in kept)
    assert sweep(tmp_path / "not there") == 0


def test_a_writer_whose_file_is_swept_before_it_is_locked_begins_again(
    tmp_path, monkeypatch
):
    """The moment between open and lock, made as long as it takes."""
    swept = []

    lock = fcntl.flock

    def flock(file, flags):
        if not swept:
            (path,) = unfinished(tmp_path)
            path.unlink()
            swept.append(path)
        lock(file, flags)

    monkeypatch.setattr("ptystream.publish.atomic.fcntl.flock", flock)
    write_atomic(tmp_path / "a.bin", b"whole")
    assert swept
    assert (tmp_path / "a.bin").read_bytes() == b"whole"
    assert unfinished(tmp_path) == []


def test_a_write_that_fails_leaves_nothing_and_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    write_atomic(path, b"old")
    with pytest.raises(TypeError):
        write_atomic(path, "text")  # pyright: ignore[reportArgumentType]
    assert path.read_bytes() == b"old"
    assert unfinished(tmp_path) == []
