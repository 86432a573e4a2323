"""The groups of settings that are the service's own; the science's are in its rooms."""

from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ConfigDict, model_validator

from ptystream.ingest.documents import DocumentKey, Value
from ptystream.ingest.preprocess_options import PreprocessOptions

Seconds = Annotated[float, Gt(0)]
Count = Annotated[int, Gt(0)]


class Settings(BaseModel):
    """Frozen; an unknown key is an error, not a typo that runs."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )


class CurveSettings(Settings):
    """Certificates as ``zmq.auth.create_certificates`` makes them."""

    server_key_file: str
    """The sender's public key."""
    client_secret_file: str
    """Our own keys; refused if others may read the file."""


class ServerCurveSettings(Settings):
    """Keys of our own sockets, as ``ptystream keys new`` makes them."""

    secret_file: str
    """The service's own; refused if others may read it."""
    readers: str
    """Folder of the public keys of those who may look: status, preview and questions.
    Refused if others may write to it."""
    controllers: str
    """Folder of those who may command as well."""


class DetectorSettings(Settings):
    """Where diffraction patterns come from."""

    endpoint: str = "ptys+sub://127.0.0.1:5601"
    """``<protocol>+<sub|pull>://HOST:PORT``."""
    allow_pull: bool = False
    """Also pull where that takes frames away from another consumer: a detector's own
    socket shares its frames among all who pull."""
    channel: str | None = None
    """Which channel to take of a detector with several thresholds, or which source of a
    karabo bridge; none: the first."""
    first_frame: Annotated[int, Ge(0)] = 0
    """The number of a scan's first array on the areaDetector wire: EPICS' counter, set
    to 0 before a scan, gives many cameras' first array a 1."""
    curve: CurveSettings | Literal["env"] | None = None
    """Keys of an encrypted connection; ``env``: those in ``SERVER_PUBLIC_KEY``,
    ``CLIENT_PUBLIC_KEY`` and ``CLIENT_SECRET_KEY``, all three, or none: unencrypted."""
    ring_mib: Count = 256
    """Shared memory between receiver and service; when full, frames are dropped."""
    max_frame_mib: Count = 8
    """A larger pattern is refused before memory is taken for it."""
    crop: tuple[int, int, int, int] | None = None
    """Rows from, columns from, rows, columns of the pattern to keep, once turned; none:
    all."""
    preprocess: PreprocessOptions = PreprocessOptions()
    """What is done to each pattern on its way in."""

    @model_validator(mode="after")
    def _one_window(self) -> Self:
        """Refuse two windows, and one beyond the largest pattern."""
        size = self.preprocess.size
        if size is not None and self.crop is not None:
            raise ValueError("crop and preprocess.size: expected one of them")
        if size is not None and min(size) < self.preprocess.binning:
            raise ValueError(f"preprocess.size {size}: smaller than its binning")
        if size is not None and 4 * size[0] * size[1] > self.max_frame_mib << 20:
            raise ValueError(f"preprocess.size {size}: more than max_frame_mib")
        return self


class AxisSettings(Settings):
    """Which encoder column is an axis: metres = counts * scale_m + offset_m."""

    column: str
    """``INENC1.VAL``, of which the best capture is taken, or ``INENC1.VAL.Mean``."""
    scale_m: float | None = None
    """Metres per count, its sign the axis' direction; none: the encoder box's own."""
    offset_m: float = 0.0
    """Added, in metres."""


class PositionSettings(Settings):
    """Where encoder positions come from."""

    endpoint: str = "ptys+sub://127.0.0.1:5602"
    """``<protocol>+<sub|pull>://HOST:PORT``, or ``panda://HOST`` for a PandABox."""
    curve: CurveSettings | Literal["env"] | None = None
    """As the detector's; a PandABox's own port knows no encryption."""
    y: AxisSettings | None = None
    """The vertical axis, for wires that give encoder columns."""
    x: AxisSettings | None = None
    """The horizontal axis, likewise."""
    time: str | None = None
    """The column of time stamps; none: ``PCAP.TS_START``, ``TS_TRIG`` or ``TS_END``."""
    monitor: str | None = None
    """The column of a beam monitor (I₀), on wires with encoder columns: frames were lit
    as it says; none: all alike."""
    per_frame: Annotated[int, Ge(1), Le(1 << 14)] | Literal["auto"] = "auto"
    """Encoder samples a frame; ``auto``: told by time stamps or totals, or refused."""
    lag: Annotated[int, Ge(-(1 << 20)), Le(1 << 20)] = 0
    """Frame i has position i + lag: for encoders whose capture began so many frames too
    early (> 0) or too late (< 0), as the verdict on the data's health says."""


class KnownGeometry(Settings):
    """What turns detector pixels into object pixels; none: not told here."""

    energy_ev: Annotated[float, Gt(0)] | None = None
    """Photon energy, in eV."""
    distance_m: Annotated[float, Gt(0)] | None = None
    """Sample to detector, in metres."""
    detector_pixel_m: Annotated[float, Gt(0)] | None = None
    """Pitch of the detector as it is, in metres, before any binning."""


class GeometrySettings(KnownGeometry):
    """Values that win over all others: start document, baseline, stream, defaults."""

    start_document: dict[Value, DocumentKey] = {}
    """Where a run's start document has what."""
    baseline: dict[Value, DocumentKey] = {}
    """Where the data of its baseline has what."""
    default: KnownGeometry = KnownGeometry()
    """Values that nobody else gave."""


class FirstProbeSettings(Settings):
    """Where the probe starts."""

    source: Literal["auto", "file", "optics", "stream", "pattern", "random"] = "auto"
    """``file``: another result's or CXI file's; ``optics``: those given here;
    ``stream``: the optics in the scan's metadata, or the input file's illumination;
    ``pattern``: the mean pattern; ``random``: as PtyINR begins, uniform in [0, 1];
    ``auto``: the first of these that there is."""
    file: str | None = None
    """A result or CXI file that holds a probe."""
    defocus_m: float | None = None
    """Replaces the defocus of the optics, in metres."""
    optics: dict[str, Any] | None = None
    """``{kind = "zone_plate", diameter_m, outer_zone_m, stop_m, defocus_m}``, or
    ``{kind = "laue_lenses", aperture_rad = [y, x], defocus_m = [y, x]}``, or
    ``{kind = "electron_aperture", semi_angle_rad, defocus_m, aberrations}``, the last
    rows of n, m, C_nm in metres and its angle in radians."""


class FirstObjectSettings(Settings):
    """Where the object starts."""

    file: str | None = None
    """A result file that holds an object of the same pixel, such as a classical
    engine's: pixels begin as it, a network is taught it in ``object.pretrain_steps``;
    none: empty space."""


class ScanSettings(Settings):
    """When a scan counts as over, and how long parts wait for each other."""

    idle_timeout_s: Seconds = 30.0
    """A scan that says nothing for so long ends as ``timed out``."""
    late_s: Seconds = 5.0
    """A frame waits so long for its position, a position for its frame."""
    waiting: Count = 8192
    """Frames that may wait; beyond it the oldest is dropped and counted."""
    backlog: Count = 4096
    """Exposures between ingest and engine; beyond it they are thinned, evenly over the
    scan, and counted."""
    documents_s: Annotated[float, Ge(0), Le(5)] = 1.0
    """A scan that opens waits so long for its run's documents, where runs are announced
    to the service at all."""
    max_object_mpx: Count = 64
    """Megapixels of object; an exposure so far off that more were needed is dropped,
    counted: an encoder's glitch. 64 take 1.8 GB."""


class RefineSettings(Settings):
    """What happens after the last frame."""

    max_s: Annotated[float, Ge(0)] = 30.0
    """Refine for at most so long."""
    max_steps: Count | None = None
    """Refine for at most so many steps, or sweeps of a classical engine: as much work
    on any machine. Steps in which first probes contend are not among them."""
    check_s: Seconds = 0.5
    """Look at the held-out quality so often."""
    patience_s: Seconds = 2.0
    """Slow down, and at last stop, when quality has not improved for so long."""
    gain: Annotated[float, Gt(0)] = 0.001
    """The smallest share of the held-out error that counts as an improvement."""
    watch: Literal["error", "likelihood"] = "error"
    """What is to improve: the relative error of held-out amplitudes, or their Poisson
    deviance (twice the negative log-likelihood, less that of a perfect model)."""


class CheckpointSettings(Settings):
    """What lets a scan survive the service: checkpoints, and a tape beside it."""

    tape: str | None = None
    """The tape that ``ptystream record`` writes beside the service, or the folder with
    such tapes: the newest. With it a scan is checkpointed, a service that was killed
    goes on with it when it starts again, and frames that it missed are read from the
    tape. None: nothing of that."""
    folder: str | None = None
    """Where checkpoints lie; none: beside the results."""
    every_s: Seconds = 60.0
    """Time between two checkpoints of a scan."""


class TiledSettings(Settings):
    """A Tiled server that keeps each reconstruction; its key never goes in here."""

    uri: str
    """``http(s)://HOST:PORT``, or the address of a container on it."""
    path: str = "ptystream"
    """The container, below that, that the runs go into; made if it isn't there."""
    key_file: str | None = None
    """File with the API key, readable by its owner only; none: ``TILED_API_KEY``."""
    every_s: Seconds = 1.0
    """Time between previews."""
    full_every_s: Seconds = 30.0
    """Time between complex objects and probes; the last ones are always kept."""
    preview_px: Annotated[int, Ge(16), Le(512)] = 256
    """Longest side of a preview."""
    max_mib: Count = 256
    """A larger array is left out, and named in the metadata."""


class PvaSettings(Settings):
    """EPICS PVAccess: images and figures that any client may read, and none write."""

    prefix: str
    """``PTY`` gives ``PTY:Pva1:Image``, ``PTY:Quality`` and the others."""
    interface: str = "127.0.0.1"
    """Address of the interface to serve on."""
    port: Annotated[int, Ge(0), Le(65535)] = 5075
    """TCP; 0: any free one."""
    broadcast_port: Annotated[int, Ge(1), Le(65535)] = 5076
    """UDP, where clients search."""
    max_px: Annotated[int, Ge(16), Le(4096)] = 1024
    """Longest side of an image."""


class PublishSettings(Settings):
    """Where results and the service's state go; loopback unless told.

    Other machines reach control, status and preview with ``curve`` only, or with
    ``insecure``. Metrics are numbers, and may be anywhere.
    """

    results: str = "results"
    """Folder of the final HDF5 files."""
    picture: bool = True
    """Draw a PNG beside each result."""
    report: bool = True
    """Write a page of HTML beside it too: picture, curves, figures, configuration."""
    every_s: Seconds = 0.5
    """Time between snapshots for preview, status and documents."""
    control: str = "tcp://127.0.0.1:5610"
    """Control ROUTER (JSON)."""
    status: str = "tcp://127.0.0.1:5611"
    """Status PUB (JSON)."""
    preview: str = "tcp://127.0.0.1:5612"
    """Preview PUB (msgpack header, raw images)."""
    metrics: str = "127.0.0.1:9610"
    """HTTP host and port of /metrics, /healthz and /readyz."""
    curve: ServerCurveSettings | None = None
    """Keys of control, status and preview; none: open to whoever reaches them."""
    insecure: bool = False
    """Let control, status, preview and PVAccess be reached from other machines without
    keys: whoever reaches them sees everything, and commands."""
    documents: str | None = None
    """Input of a 0MQ document proxy, ``127.0.0.1:5577``; none: no documents."""
    documents_curve: CurveSettings | None = None
    """Keys of a proxy whose input is a CURVE server."""
    documents_prefix: str = "an"
    """Prefix of the derived run's documents."""
    tiled: TiledSettings | None = None
    """A Tiled server; none: nothing is written to one."""
    pva: PvaSettings | None = None
    """EPICS PVAccess; none: not served."""
    presets: tuple[str, ...] = ()
    """What lies beneath these settings, told in status and results:
    ``profiles/hxn``, as ``--profile`` and ``--recipe`` set it."""
