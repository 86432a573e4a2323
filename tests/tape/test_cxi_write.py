import multiprocessing
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptystream.errors import FileFormatError
from ptystream.tape import cxi
from ptystream.tape.cxi import CxiScan
from ptystream.tape.cxi_write import SEQUENCE, CxiWriter
from ptystream.wire import codecs
from ptystream.wire.messages import Geometry

GEOMETRY = Geometry(1.4e-10, 1.9, (55e-6, 75e-6))
FRAMES = np.random.default_rng(0).poisson(3, (150, 8, 6)).astype(np.uint16)


def writer(path: Path, **more) -> CxiWriter:
    return CxiWriter(path, (8, 6), np.dtype("<u2"), GEOMETRY, **more)


def test_chunks_are_stored_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "a.cxi"
    payloads = [bytes(codecs.encode(frame, "bslz4")) for frame in FRAMES]
    with writer(path) as out:
        for i, payload in enumerate(payloads):
            out.append_chunk(3 * i, payload, (i * 1e-9, -i * 1e-9))
    with h5py.File(path) as file:
        data = file[cxi.DATA[1]]
        assert [data.id.read_direct_chunk((i, 0, 0))[1] for i in range(150)] == payloads
        assert file[SEQUENCE][:].tolist() == [3 * i for i in range(150)]
        assert file["/entry_1"].attrs["NX_class"] == "NXentry"
        assert file["/entry_1/definition"][()] == b"NXptycho"
        assert file[cxi.ENERGY].attrs["units"] == "J"
    with CxiScan(path) as scan:
        assert (np.stack([f.counts for f in scan.frames()]) == FRAMES).all()
        assert scan.positions_m[7].tolist() == [7 * 1e-9, -7 * 1e-9]


def test_it_is_there_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.cxi"
    with writer(path) as out:
        out.append(0, FRAMES[0], (0, 0))
        assert not path.exists()
    with pytest.raises(RuntimeError), writer(tmp_path / "b.cxi") as out:
        raise RuntimeError
    assert list(tmp_path.iterdir()) == [path]


def _read_growing(path: Path, told, answers) -> None:
    """Read the file in another process, as a program at a beamline would."""
    for _ in iter(told.get, None):
        with h5py.File(path, "r", libver="latest", swmr=True) as file:
            data = file[cxi.DATA[0]]
            answers.put((len(file[cxi.TRANSLATION[0]]), np.asarray(data[:])))


def test_it_is_read_in_swmr_mode_while_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "a.cxi"
    spawn = multiprocessing.get_context("spawn")
    told, answers = spawn.Queue(), spawn.Queue()
    reader = spawn.Process(target=_read_growing, args=(path, told, answers))
    reader.start()
    try:
        with writer(path, follow=True) as out:
            for upto in (0, 10, 140):
                for i in range(out.written, upto):
                    out.append(i, FRAMES[i], (0, 0))
                out.flush()
                told.put("look")
                positions, seen = answers.get(timeout=30)
                assert positions == len(seen) == upto
                assert (seen == FRAMES[:upto]).all()
    finally:
        told.put(None)
        reader.join(30)
    with CxiScan(path) as scan:
        assert len(scan) == 140


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="unsigned"):
        CxiWriter(tmp_path / "a", (8, 6), np.dtype(float), GEOMETRY)
    with pytest.raises(FileFormatError, match=r"frame 5: .*expected"):
        with writer(tmp_path / "a") as out:
            out.append(5, FRAMES[0].astype("<u4"), (0, 0))
    existing = tmp_path / "old.cxi"
    existing.write_bytes(b"precious")
    with pytest.raises(FileFormatError, match="can't be written"):
        writer(existing, follow=True).__enter__()
    assert existing.read_bytes() == b"precious"


_ON_A_SMALL_DISK = """
import resource, sys
import numpy as np
from ptystream.errors import FileFormatError
from tests.tape.test_cxi_write import FRAMES, writer
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
noise = np.random.default_rng(0).integers(0, 1 << 16, (8, 6)).astype("<u2")
try:
    with writer(Path(sys.argv[1])) as out:
        for i in range(5000):
            out.append(i, noise, (0, 0))
except FileFormatError as e:
    print(e)
"""


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    words = [sys.executable, "-c", _ON_A_SMALL_DISK, str(tmp_path / "a.cxi")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert "a.cxi: can't be written" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []
