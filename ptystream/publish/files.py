"""The result file: HDF5, whole or not there.

The file is composed in memory and written with plain I/O. HDF5 itself must never
meet a full disk: h5py 3.16 then can't close the file and the process ends in a
segmentation fault, with the reconstruction in it.
"""

import io
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ptystream import __version__
from ptystream.errors import FileFormatError
from ptystream.publish.atomic import safe_name, write_atomic
from ptystream.publish.history import History
from ptystream.publish.sink import FrameCounts, RunEnd, RunInfo
from ptystream.recon.findings import Finding
from ptystream.recon.metrics import Frc
from ptystream.recon.snapshot import Quality, Snapshot

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
MAPS = ("coverage", "confidence")
"""Pictures that lie on the object, where there are any."""
FLAGS = ("probe_released", "converged")
"""What of the quality is true or false."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a result file holds; also a truth file, which has no coverage or history.

    Arrays as in Snapshot. ``positions_m`` is ``[n, 2]`` (y, x). ``history`` has one
    1-D array per name. ``provenance`` is JSON-safe. ``rung``, ``first_probe`` and
    ``health`` as in Snapshot, empty where not known; ``quality`` (attributes of
    ``/quality``), ``confidence`` and ``frc`` (``/frc``) are too.
    """

    object: np.ndarray
    probe: np.ndarray
    pixel_m: tuple[float, float]
    origin_m: tuple[float, float]
    coverage: np.ndarray | None = None
    positions_m: np.ndarray | None = None
    history: Mapping[str, np.ndarray] = field(default_factory=dict)
    run: str = ""
    scan: str = ""
    version: str = __version__
    seed: int | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    rung: str = ""
    first_probe: str = ""
    health: tuple[Finding, ...] = ()
    quality: Quality | None = None
    confidence: np.ndarray | None = None
    frc: Frc | None = None


def result_of(
    snapshot: Snapshot,
    info: RunInfo,
    history: Mapping[str, np.ndarray] | None = None,
) -> Result:
    """Return the snapshot with all that a file should say about it."""
    seed = info.provenance.get("seed")
    return Result(
        object=snapshot.object,
        probe=snapshot.probe,
        pixel_m=snapshot.pixel_m,
        origin_m=snapshot.origin_m,
        coverage=snapshot.coverage,
        positions_m=snapshot.positions_m,
        history=history or {},
        run=info.run,
        scan=info.scan,
        seed=seed if isinstance(seed, int) else None,
        provenance=info.provenance,
        rung=snapshot.rung,
        first_probe=snapshot.first_probe,
        health=snapshot.health,
        quality=snapshot.quality,
        confidence=snapshot.confidence,
        frc=snapshot.frc,
    )


def write_result(path: Path, result: Result) -> None:
    """Write atomically; OSError if the disk is full, and then the old file stays."""
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        _write_root(file, result)
        _write_arrays(file, result)
        _write_quality(file, result)
        _write_history(file, result.history)
    write_atomic(path, image.getbuffer())


def read_result(path: Path) -> Result:
    """Read a result or a truth file; FileFormatError says what it lacks."""
    try:
        with h5py.File(path) as file:
            return _read(file)
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise FileFormatError(f"{path}: {error}") from error


class FileSink:
    """Keeps each run's result in ``folder/<scan>_<run>.h5``.

    Written at stop, every ``every_s`` seconds if given, and by ``save``, which
    belongs on the sink's thread: ``SinkThread.soon(file_sink.save)``.
    """

    name = "files"

    def __init__(
        self,
        folder: Path,
        every_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        kept: Callable[[RunInfo], None] = lambda _: None,
    ) -> None:
        """Store; ``kept`` is told of each run whose end is on disk, or left nothing."""
        self._kept = kept
        self._folder = folder
        self._every_s = every_s
        self._clock = clock
        self._info: RunInfo | None = None
        self._snapshot: Snapshot | None = None
        self._history = History()
        self._began_s = self._written_s = 0.0

    def path(self, info: RunInfo) -> Path:
        """Return where the run's result goes; inside the folder, whatever the uids."""
        return self._folder / f"{safe_name(info.scan)}_{safe_name(info.run)}.h5"

    def start(self, info: RunInfo) -> None:
        """Make the folder, so that one that can't be made is known early."""
        self._info, self._snapshot = info, None
        self._history = History()
        self._began_s = self._written_s = self._clock()
        self._folder.mkdir(parents=True, exist_ok=True)

    def update(self, snapshot: Snapshot, frames: FrameCounts) -> None:
        """Note the quality; write if it is time."""
        now_s = self._clock()
        self._snapshot = snapshot
        self._history.add(now_s - self._began_s, snapshot, frames)
        if self._every_s is not None and now_s - self._written_s >= self._every_s:
            self.save()

    def stop(self, snapshot: Snapshot | None, frames: FrameCounts, end: RunEnd) -> None:
        """Write the final result; nothing if nothing was reconstructed."""
        if snapshot is None:
            log.warning("run ended %s with nothing to save", end.reason)
        else:
            self._snapshot = snapshot
            self._history.add(self._clock() - self._began_s, snapshot, frames)
            self.save()
        if self._info is not None:
            self._kept(self._info)

    def save(self) -> None:
        """Write the newest snapshot seen; OSError names the path."""
        if self._info is None or self._snapshot is None:
            log.info("nothing to save yet")
            return
        self._written_s = self._clock()
        path = self.path(self._info)
        history = self._history.columns()
        try:
            write_result(path, result_of(self._snapshot, self._info, history))
        except OSError as error:
            raise OSError(error.errno, f"{path} not saved: {error.strerror}") from error
        log.info("saved %s", path)

    def close(self) -> None:
        """Forget the last run; its file is on disk."""
        self._info = self._snapshot = None


def _write_root(file: h5py.File, result: Result) -> None:
    file.attrs.update(
        NX_class="NXroot",
        creator="ptystream",
        creator_version=result.version,
        version=result.version,
        format_version=FORMAT_VERSION,
        file_time=datetime.now(UTC).isoformat(timespec="seconds"),
        run=result.run,
        scan=result.scan,
        provenance=json.dumps(dict(result.provenance)),
        rung=result.rung,
        first_probe=result.first_probe,
        health=json.dumps([asdict(found) for found in result.health]),
    )
    if result.seed is not None:
        file.attrs["seed"] = result.seed


def _write_arrays(file: h5py.File, result: Result) -> None:
    file["object"] = np.asarray(result.object, np.complex64)
    file["probe"] = np.asarray(result.probe, np.complex64)
    placed = ["object"]
    for name in MAPS:
        image = getattr(result, name)
        if image is not None:
            file[name] = np.asarray(image, np.float32)
            placed.append(name)
    for name in placed:
        file[name].attrs["origin_m"] = result.origin_m
    for name in (*placed, "probe"):
        file[name].attrs["pixel_size_m"] = result.pixel_m
    if result.positions_m is not None:
        file["positions_m"] = np.asarray(result.positions_m, np.float64)
        file["positions_m"].attrs["units"] = "m"


def _write_quality(file: h5py.File, result: Result) -> None:
    """Write the last quality as attributes, and the curve behind its resolution."""
    if result.quality is not None:
        file.create_group("quality").attrs.update(asdict(result.quality))
    if result.frc is None:
        return
    group = file.create_group("frc")
    for name, column in asdict(result.frc).items():
        group[name] = column
    group["half_bit"] = result.frc.threshold()
    group["frequency_per_m"].attrs["units"] = "1/m"
    group.attrs.update(NX_class="NXdata", signal="correlation", axes="frequency_per_m")


def _write_history(file: h5py.File, history: Mapping[str, np.ndarray]) -> None:
    if not history:
        return
    group = file.create_group("history")
    for name, column in history.items():
        group[name] = column
    group.attrs["NX_class"] = "NXdata"
    if {"time_s", "held_out_error"} <= history.keys():
        group.attrs.update(signal="held_out_error", axes="time_s")
        group["time_s"].attrs["units"] = "s"
        file.attrs["default"] = "history"


def _read(file: h5py.File) -> Result:
    obj = _array(file, "object", 3, np.complex64)
    maps = {name: _map(file, name, obj.shape[1:]) for name in MAPS if name in file}
    has_positions = "positions_m" in file
    attributes = file.attrs
    seed = attributes.get("seed")
    health = json.loads(str(attributes.get("health", "[]")))
    return Result(
        object=obj,
        probe=_array(file, "probe", 3, np.complex64),
        pixel_m=_pair(file, "pixel_size_m"),
        origin_m=_pair(file, "origin_m"),
        **maps,
        positions_m=_array(file, "positions_m", 2, np.float64)
        if has_positions
        else None,
        history=_columns(file),
        run=str(attributes.get("run", "")),
        scan=str(attributes.get("scan", "")),
        version=str(attributes.get("version", "")),
        seed=None if seed is None else int(np.asarray(seed)),
        provenance=json.loads(str(attributes.get("provenance", "{}"))),
        rung=str(attributes.get("rung", "")),
        health=tuple(Finding(**found) for found in health),
        first_probe=str(attributes.get("first_probe", "")),
        quality=_quality(file),
        frc=_frc(file),
    )


def _map(file: h5py.File, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a picture that lies on the object."""
    image = _array(file, name, 2, np.float32)
    if image.shape != shape:
        raise ValueError(f"/{name} {image.shape} on an object {shape}")
    return image


def _quality(file: h5py.File) -> Quality | None:
    """Return the last quality; what the file doesn't say is not known."""
    group = file.get("quality")
    if not isinstance(group, h5py.Group):
        return None
    known: dict[str, Any] = {}
    for name in (f.name for f in fields(Quality) if f.name in group.attrs):
        value = float(np.asarray(group.attrs[name]))
        known[name] = value > 0 if name in FLAGS else value
    return Quality(**known)


def _frc(file: h5py.File) -> Frc | None:
    """Return the curve behind the resolution."""
    if "frc" not in file:
        return None
    return Frc(*(_array(file, f"frc/{f.name}", 1, np.float64) for f in fields(Frc)))


def _array(file: h5py.File, name: str, axes: int, dtype: type) -> np.ndarray:
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise KeyError(f"no dataset /{name}")
    if dataset.ndim != axes or dataset.dtype.kind != np.dtype(dtype).kind:
        raise ValueError(
            f"/{name} is {dataset.dtype} {dataset.shape}, "
            f"expected {np.dtype(dtype)} of {axes} axes"
        )
    return np.asarray(dataset[...], dtype)


def _pair(file: h5py.File, name: str) -> tuple[float, float]:
    attributes = file["object"].attrs
    if name not in attributes:
        raise KeyError(f"/object has no attribute {name}")
    value = np.asarray(attributes[name], float)
    if value.shape != (2,) or not np.isfinite(value).all():
        raise ValueError(f"/object: {name} is {value}, expected (y, x)")
    return float(value[0]), float(value[1])


def _columns(file: h5py.File) -> dict[str, np.ndarray]:
    group = file.get("history")
    if not isinstance(group, h5py.Group):
        return {}
    return {name: np.asarray(column, float) for name, column in group.items()}
