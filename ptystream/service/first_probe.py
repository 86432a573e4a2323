"""The probe that a scan begins with: whose it is, and that it can be used."""

from pathlib import Path

import h5py
import numpy as np

from ptystream.config import Config
from ptystream.errors import ConfigError, FileFormatError
from ptystream.publish.files import read_result
from ptystream.tape.cxi import CxiScan


def first_probe(config: Config) -> np.ndarray | None:
    """Return the probe ``[modes, k, k]`` of ``first_probe.file``; None without one.

    Raises:
        ConfigError: the source is ``file``, and no file is named.
        FileFormatError: the file is no result, truth or CXI file with a probe.
    """
    wanted = config.first_probe
    if wanted.file is None:
        if wanted.source == "file":
            raise ConfigError("first_probe.source is file: expected first_probe.file")
        return None
    path = Path(wanted.file)
    if not _is_cxi(path):
        return read_result(path).probe
    with CxiScan(path) as cxi:
        if cxi.illumination is None:
            raise FileFormatError(f"{path}: expected an illumination, found none")
        return cxi.illumination


def _is_cxi(path: Path) -> bool:
    """Tell a CXI file from a result; both are HDF5."""
    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path) as file:
        return "entry_1" in file
