"""The file formats that a scan can be read from, and how one is told from another."""

from contextlib import AbstractContextManager
from pathlib import Path

import h5py

from ptystream.errors import FileFormatError
from ptystream.tape.cxi import CxiScan
from ptystream.tape.hxn import AMPLITUDES, HxnScan
from ptystream.tape.source import FileScan


def is_tape(path: Path) -> bool:
    """Tell a tape, or what is no HDF5 file, from a file of a scan."""
    return not h5py.is_hdf5(path)


def scan_file(path: Path) -> AbstractContextManager[FileScan]:
    """Return an HDF5 file's reader, to be entered: HXN-style, or else CXI.

    Raises:
        FileFormatError: the file can't be opened as HDF5.
    """
    try:
        with h5py.File(path, "r") as file:
            hxn = AMPLITUDES in file
    except OSError as e:
        raise FileFormatError(f"{path}: expected an HDF5 file: {e}") from e
    return HxnScan(path) if hxn else CxiScan(path)
