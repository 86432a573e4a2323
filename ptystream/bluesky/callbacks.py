"""Tells the service of Bluesky runs, out of their documents.

    announcer = Announcer("tcp://127.0.0.1:5610", energy="dcm_energy")
    announcer.start()
    RE.subscribe(announcer)

or, in another process, ``RemoteDispatcher(…, deserializer=orjson.loads)``.
"""

import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from ptystream.bluesky.documents import energy_ev, frames_of, is_derived, trimmed
from ptystream.errors import PtystreamError
from ptystream.publish.client import ControlClient
from ptystream.wire.curve import ClientKeys

log = logging.getLogger(__name__)

WAITING = 256
"""Documents that may wait for a slow service; more are dropped, counted."""
RUNS = 16
"""Runs that are remembered; the oldest is forgotten."""
REPLY_S = 2.0
WANTED = frozenset({"start", "descriptor", "event", "event_page", "stop"})


@dataclass(frozen=True, slots=True)
class AnnouncerStats:
    """Documents ``dropped`` for lack of room, ``ignored`` as of no use, ``refused``.

    ``sent`` requests reached the service, ``failed`` did not, or it refused them.
    """

    sent: int = 0
    failed: int = 0
    dropped: int = 0
    ignored: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class _Run:
    """What is known of a run; ``left_out`` are keys too large to send."""

    note: Mapping[str, Any]
    baselines: frozenset[str] = frozenset()
    units: Mapping[str, str] = field(default_factory=dict)


class Announcer:
    """A document callback that never waits and never raises, whatever it is given.

    Each run is announced with its start document; baseline and the descriptors'
    configuration follow as they come. Every request says all that is known, so that
    a later one makes good for one that was lost. Derived runs are ignored.

    Args:
        control: the service's control address.
        energy: the key of the photon energy in the baseline, whose unit its data key
            names (eV or keV); None: the service's configuration knows.
        angle: the key of the sample's angle in the baseline, in degrees.
        baseline: the name of the baseline's stream.
        keys: of a service with ``publish.curve``.
    """

    def __init__(
        self,
        control: str,
        *,
        energy: str | None = None,
        angle: str | None = None,
        baseline: str = "baseline",
        keys: ClientKeys | None = None,
    ) -> None:
        self._control, self._baseline, self._curve = control, baseline, keys
        self._keys = {"energy_ev": energy, "angle_deg": angle}
        self._queue: queue.Queue[tuple[str, Mapping[str, Any]]]
        self._queue = queue.Queue(WAITING)
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._streams: OrderedDict[str, str] = OrderedDict()
        self._stats = AnnouncerStats()
        self._dropped = 0
        self._stopping = threading.Event()
        self._down = False
        self._thread = threading.Thread(
            target=self._work, name="announcer", daemon=True
        )

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()

    def start(self) -> None:
        """Start the thread that talks to the service."""
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> bool:
        """Send what waits, end the thread; False if it hangs and is left behind.

        What waits for a service that is gone counts as failed.
        """
        self._stopping.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take a document; what there is no room for is dropped and counted."""
        if name not in WANTED:
            return
        try:
            self._queue.put_nowait((str(name), doc))
        except queue.Full:
            self._dropped += 1

    def stats(self) -> AnnouncerStats:
        """Return the counts so far."""
        return replace(self._stats, dropped=self._dropped)

    def _work(self) -> None:
        """Take documents until told to stop and none is left."""
        with ControlClient(self._control, REPLY_S, self._curve) as client:
            while True:
                try:
                    work = self._queue.get(timeout=0.1)
                except queue.Empty:
                    if self._stopping.is_set():
                        return
                    continue
                self._heed(client, *work)
                if self._down and self._stopping.is_set():
                    self._count(failed=self._queue.qsize())
                    return

    def _heed(self, client: ControlClient, name: str, doc: Mapping[str, Any]) -> None:
        """Heed one document; anything may be in it."""
        try:
            request = getattr(self, f"_{name}")(doc)
        except Exception as error:  # noqa: BLE001 - a stranger's document, in our thread
            self._count(refused=1)
            log.warning("%s document left out: %r", name, error)
            return
        if request is None:
            self._count(ignored=1)
            return
        self._send(client, *request)

    def _send(self, client: ControlClient, cmd: str, args: Mapping[str, Any]) -> None:
        try:
            reply = client.ask(cmd, **args)
        except PtystreamError as error:
            self._failed(str(error))
            return
        if not reply.get("ok"):
            self._failed(f"{cmd} refused: {reply.get('error')}")
            return
        self._down = False
        self._count(sent=1)

    def _failed(self, why: str) -> None:
        """Count, and log the first of a row."""
        self._count(failed=1)
        log.log(logging.DEBUG if self._down else logging.WARNING, "%s", why)
        self._down = True

    def _count(self, **more: int) -> None:
        counts = {n: getattr(self._stats, n) + k for n, k in more.items()}
        self._stats = replace(self._stats, **counts)

    def _start(self, doc: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
        if is_derived(doc):
            return None
        document, left_out = trimmed(doc)
        if left_out:
            log.info("run %s: %s too large to announce", doc["uid"], left_out)
        note = {"uid": str(doc["uid"]), "start_document": document}
        frames = frames_of(document)
        return self._known(note | ({"frames": frames} if frames else {}))

    def _descriptor(self, doc: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
        uid = str(doc["run_start"])
        if "ptystream" in doc.get("object_keys", {}):
            return None
        keys = doc["data_keys"]
        if doc.get("name") == self._baseline:
            self._streams[str(doc["uid"])] = uid
            while len(self._streams) > RUNS:
                self._streams.popitem(last=False)
            units = {k: str(v.get("units") or "") for k, v in keys.items()}
            run = self._runs.get(uid, _Run({"uid": uid}))
            self._runs[uid] = replace(run, units={**run.units, **units})
        data = {}
        for device in doc.get("configuration", {}).values():
            data.update(device.get("data", {}))
        return self._known({"uid": uid, "configuration": trimmed(data)[0]})

    def _event(self, doc: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
        uid = self._streams.get(str(doc["descriptor"]))
        return None if uid is None else self._baseline_data(uid, doc["data"])

    def _event_page(self, doc: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
        uid = self._streams.get(str(doc["descriptor"]))
        if uid is None:
            return None
        rows = {key: column[0] for key, column in doc["data"].items() if len(column)}
        return self._baseline_data(uid, rows)

    def _stop(self, doc: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
        uid = str(doc["run_start"])
        return ("close", {"uid": uid}) if self._runs.pop(uid, None) else None

    def _baseline_data(
        self, uid: str, data: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any]] | None:
        """Return what the baseline says: the first reading, that before the scan."""
        run = self._runs.get(uid)
        if run is not None and run.note.get("baseline"):
            return None
        told = trimmed(data)[0]
        geometry: dict[str, Any] = {}
        for name, key in self._keys.items():
            value = told.get(key) if key else None
            if name == "energy_ev":
                value = energy_ev(value, run.units.get(key or "", "") if run else "")
            if isinstance(value, int | float):
                geometry[name] = {"value": value, "origin": f"baseline: {key}"}
        return self._known({"uid": uid, "baseline": told, "geometry": geometry})

    def _known(self, note: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Add to what is known of a run; return the request that says it all."""
        uid = note["uid"]
        run = self._runs.pop(uid, _Run({"uid": uid}))
        merged = {**run.note, **{k: v for k, v in note.items() if v}}
        self._runs[uid] = replace(run, note=merged)
        while len(self._runs) > RUNS:
            self._runs.popitem(last=False)
        return "configure", merged
