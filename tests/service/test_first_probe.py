from pathlib import Path

import numpy as np
import pytest

from ptystream.errors import ConfigError, FileFormatError
from ptystream.publish.files import Result, write_result
from ptystream.service.first_probe import first_probe
from ptystream.sim.truth import Truth, write_truth
from ptystream.tape.cxi_write import write_cxi
from tests.recon.small_scan import SmallScan
from tests.service.exposures import GEOMETRY, PIXEL_M, config

PROBE = SmallScan().probe[None].astype(np.complex64)
OBJECT = np.ones((1, 40, 40), np.complex64)
PIXELS_M = (PIXEL_M, PIXEL_M)


def of(path: Path, *flags: str) -> np.ndarray | None:
    return first_probe(config(f"first_probe.file={path}", *flags))


def test_none_unless_a_file_is_named():
    assert first_probe(config()) is None
    with pytest.raises(ConfigError, match=r"expected first_probe\.file"):
        first_probe(config("first_probe.source=file"))


def test_from_a_result(tmp_path):
    path = tmp_path / "result.h5"
    write_result(path, Result(OBJECT, PROBE, PIXELS_M, (0.0, 0.0)))
    assert np.array_equal(of(path), PROBE)


def test_from_a_truth(tmp_path):
    path = tmp_path / "truth.h5"
    write_truth(path, Truth(OBJECT, PROBE, np.zeros((1, 2)), PIXELS_M, (0.0, 0.0)))
    assert np.array_equal(of(path), PROBE)


@pytest.mark.parametrize("illumination", [PROBE, None], ids=["with", "without"])
def test_from_a_cxi_file(tmp_path, illumination):
    path = tmp_path / "scan.cxi"
    small = SmallScan()
    counts, places_m = small.counts(1e5), small.centres_px * PIXEL_M
    write_cxi(path, counts, places_m, GEOMETRY, illumination=illumination)
    if illumination is None:
        with pytest.raises(FileFormatError, match="expected an illumination"):
            of(path)
    else:
        assert np.array_equal(of(path), PROBE)


@pytest.mark.parametrize("content", [None, b"", b"no HDF5"])
def test_a_file_that_holds_none_is_named(tmp_path, content):
    path = tmp_path / "probe.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"probe\.h5"):
        of(path)
