"""The probe that a scan begins with: whose it is, and that it can be used."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from ptystream.config import Config
from ptystream.errors import ConfigError, FileFormatError
from ptystream.physics.probes import ProbeGrid, random
from ptystream.publish.files import read_result
from ptystream.recon.setting import FirstProbe
from ptystream.recon.start import (
    OPTICS,
    from_mean_pattern,
    from_optics,
    with_as_many_modes,
)
from ptystream.service.extras import Extras
from ptystream.tape.cxi import CxiScan
from ptystream.wire.messages import ScanStart


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


class ProbeSources:
    """Where a scan may have its first probe from, in the order of preference."""

    def __init__(
        self, start: ScanStart, config: Config, extras: Extras, grid: ProbeGrid
    ) -> None:
        self._start, self._config, self._extras = start, config, extras
        self._grid = grid

    def first(self, patterns: np.ndarray) -> FirstProbe:
        """Return the first guess, from where the settings say.

        Args:
            patterns: the first of the scan, ``[n, k, k]``, what isn't believed filled.

        Raises:
            ConfigError: there is none, or it is of no use.
        """
        wanted = self._config.first_probe.source
        sources = self._sources(patterns)
        for name in sources if self._any else (wanted,):
            probe = sources[name]()
            if probe is not None:
                modes = self._config.probe.modes
                return FirstProbe(with_as_many_modes(_lit(probe), modes), name)
        raise ConfigError(
            f"first_probe.source {wanted!r}: scan {self._start.scan} has none"
        )

    def _sources(self, patterns: np.ndarray) -> dict[str, Callable[[], Tensor | None]]:
        """Return each source by name, the best first."""
        optics = self._config.first_probe.optics
        return {
            "file": lambda: self._given(self._extras.given_probe),
            "optics": lambda: self._modelled(optics) if optics else None,
            "stream": self._of_stream,
            "pattern": lambda: self._of_patterns(patterns),
            "random": lambda: random(self._grid.shape, self._config.engine.seed),
        }

    @property
    def _any(self) -> bool:
        return self._config.first_probe.source == "auto"

    def _of_stream(self) -> Tensor | None:
        """Return the input's own probe, or the one that its optics make."""
        optics = self._start.meta.get("optics")
        if self._extras.probe is not None or not isinstance(optics, Mapping):
            return self._given(self._extras.probe)
        if self._any and optics.get("kind") not in OPTICS:
            return None
        return self._modelled(optics)

    def _modelled(self, optics: Mapping[str, Any]) -> Tensor:
        """Return the probe that optics make."""
        defocus_m = self._config.first_probe.defocus_m
        return from_optics(optics, self._grid, defocus_m=defocus_m)

    def _of_patterns(self, patterns: np.ndarray) -> Tensor:
        """Return the probe of the mean pattern; in the near field, its root itself."""
        if self._config.physics.model == "far":
            return from_mean_pattern(patterns)
        mean = torch.from_numpy(patterns.astype(np.float64).mean(0))
        return mean.sqrt().to(torch.complex64)

    def _given(self, probe: np.ndarray | None) -> Tensor | None:
        """Return a file's probe; raise ConfigError unless it fits the patterns."""
        if probe is None:
            return None
        if probe.shape[-2:] != self._grid.shape:
            raise ConfigError(
                f"first probe of shape {probe.shape[-2:]}, expected {self._grid.shape} "
                f"as the patterns of scan {self._start.scan}"
            )
        return torch.from_numpy(probe.astype(np.complex64))


def _lit(probe: Tensor) -> Tensor:
    """Return the probe; raise ConfigError if it is dark or not finite."""
    power = float(probe.abs().square().sum())
    if not 0 < power < math.inf:
        raise ConfigError(f"first probe of power {power}: dark, or not finite")
    return probe


def _is_cxi(path: Path) -> bool:
    """Tell a CXI file from a result; both are HDF5."""
    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path) as file:
        return "entry_1" in file
