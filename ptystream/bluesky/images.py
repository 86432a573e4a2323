"""``PtychoImages``: snapshots as stream assets, in a file that the service writes."""

import asyncio
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ophyd_async.core import (
    DetectorAcquireLogic,
    DetectorDataLogic,
    DetectorTriggerLogic,
    SignalR,
    StandardDetector,
    StreamResourceDataProvider,
    StreamResourceInfo,
    soft_signal_rw,
)

from ptystream.bluesky.link import HEARTBEAT_S, SILENT_S, ServiceLink, Status
from ptystream.bluesky.signals import status_signal
from ptystream.errors import PtystreamError, StoppedError
from ptystream.wire.curve import ClientKeys

log = logging.getLogger(__name__)

OPENED_S = 30.0
"""A disk that takes longer to begin a file is as good as none."""
STOP_S = 2.0


@dataclass
class _Stack:
    """The file that is open, and how many snapshots the next start takes."""

    link: ServiceLink
    size: int
    capacity: int
    name: str = ""
    frames: int = 1

    async def begin(self, uid: str) -> str:
        """Have a file begun; return its path once it is there.

        Raises:
            ConfigError: the service refuses: too large.
            StoppedError: it can't write there, or does not answer.
        """
        self.name = f"snapshots-{uuid.uuid4()}"
        frames = max(self.frames, self.capacity)
        args: dict[str, Any] = {"name": self.name, "frames": frames, "size": self.size}
        args |= {"uid": uid} if uid else {}
        seen = self.link.count
        path = await self.link.ask("stack", **args)
        try:
            async with asyncio.timeout(OPENED_S):
                while (self.link.latest or {})["stack"]["name"] != self.name:
                    seen = await self.link.newer(seen)
        except TimeoutError:
            raise StoppedError(f"no stack of snapshots in {OPENED_S:g} s") from None
        if error := (self.link.latest or {})["stack"]["error"]:
            raise StoppedError(f"no stack of snapshots: {error}")
        return path["path"]

    def written(self, status: Status) -> int:
        """Return how many snapshots are in the file; none of another's."""
        stack = status.get("stack") or {}
        return int(stack["written"]) if stack.get("name") == self.name else 0

    async def end(self) -> None:
        """Have the file closed; a dead service is logged."""
        if not self.name:
            return
        self.name = ""
        try:
            await self.link.ask("stack_close", STOP_S)
        except PtystreamError as error:
            log.warning("the stack of snapshots is not closed: %s", error)


class _Trigger(DetectorTriggerLogic):
    def __init__(self, stack: _Stack) -> None:
        self._stack = stack

    def get_deadtime(self, config_values: object) -> float:
        return 0.0

    async def prepare_internal(
        self, num: int, livetime: float, deadtime: float
    ) -> None:
        self._stack.frames = num


class _Acquire(DetectorAcquireLogic):
    def __init__(self, stack: _Stack) -> None:
        self._stack = stack

    async def start_acquiring(self) -> None:
        await self._stack.link.ask("stack_take", frames=self._stack.frames)

    async def wait_for_idle(self) -> None:
        """Nothing follows the last snapshot."""

    async def ensure_stopped(self) -> None:
        """The data logic closes the file."""


class _Data(DetectorDataLogic):
    def __init__(self, stack: _Stack, uid: SignalR[str], written: SignalR[int]) -> None:
        self._stack, self._uid, self._written = stack, uid, written

    async def prepare_unbounded(self, datakey_name: str) -> StreamResourceDataProvider:
        path = await self._stack.begin(await self._uid.get_value())
        size = self._stack.size
        return StreamResourceDataProvider(
            uri=f"file://localhost{path}",
            resources=[
                StreamResourceInfo(
                    data_key=datakey_name,
                    shape=(size, size),
                    chunk_shape=(1, size, size),
                    dtype_numpy="<c8",
                    parameters={"dataset": "/object"},
                    source=f"ptystream+{self._stack.link.control}#stack",
                )
            ],
            mimetype="application/x-hdf5",
            collections_written_signal=self._written,
        )

    def get_hinted_fields(self, datakey_name: str) -> Sequence[str]:
        return []

    async def stop(self) -> None:
        await self._stack.end()


class PtychoImages(StandardDetector):
    """A detector whose images are snapshots of the object, complex64 ``[size, size]``.

    In the file beside ``/object``: ``/pixel_size_m`` and ``/origin_m`` (y, x) of each
    snapshot, ``/step``, ``/held_out_error``, ``/time``.

    Args:
        control: the service's control address.
        status: its status address.
        size: side of the images, in pixels; a larger object is averaged over blocks.
        capacity: images a file holds at least.
        heartbeat_s: a service that can't be reached for so long is lost.
        silent_s: so is one that is there but says nothing for so long.
        name: the device's.
        keys: of a service with ``publish.curve``.

    Attributes:
        run_uid: the Bluesky run whose snapshots are meant; empty: any run's.
    """

    def __init__(
        self,
        control: str,
        status: str,
        size: int = 256,
        capacity: int = 64,
        heartbeat_s: float = HEARTBEAT_S,
        silent_s: float = SILENT_S,
        name: str = "",
        keys: ClientKeys | None = None,
    ) -> None:
        self.link = ServiceLink(control, status, heartbeat_s, silent_s, keys)
        stack = _Stack(self.link, size, capacity)
        self.run_uid = soft_signal_rw(str)
        self.written = status_signal(int, self.link, "stack.written", stack.written)
        self.add_detector_logics(
            _Trigger(stack), _Acquire(stack), _Data(stack, self.run_uid, self.written)
        )
        super().__init__(name=name)

    async def close(self) -> None:
        """Disconnect from the service."""
        await self.link.close()
