"""Signals whose value is a part of the service's status."""

from collections.abc import Callable
from typing import Any, Generic

from bluesky.protocols import Reading
from event_model import DataKey
from ophyd_async.core import (
    Callback,
    NotConnectedError,
    SignalBackend,
    SignalDatatypeT,
    SignalR,
)

from ptystream.bluesky.link import ServiceLink, Status
from ptystream.errors import StoppedError

_DTYPES: dict[Any, tuple[str, str]] = {
    float: ("number", "<f8"),
    int: ("integer", "<i8"),
    bool: ("boolean", "|b1"),
    str: ("string", "<U200"),
}


def data_key(datatype: type, source: str, units: str | None) -> DataKey:
    """Return the data key of a scalar."""
    dtype, dtype_numpy = _DTYPES[datatype]
    key: Any = {"source": source, "dtype": dtype, "shape": []}
    key["dtype_numpy"] = dtype_numpy
    if units is not None:
        key["units"] = units
    return key


class StatusBackend(SignalBackend[SignalDatatypeT], Generic[SignalDatatypeT]):
    """Reads what ``pick`` takes from the newest status; nothing can be put."""

    def __init__(
        self,
        datatype: type[SignalDatatypeT],
        link: ServiceLink,
        key: str,
        pick: Callable[[Status], Any],
        units: str | None = None,
    ) -> None:
        super().__init__(datatype)
        self._datatype: Any = datatype
        self._link, self._key, self._pick = link, key, pick
        self._units = units
        self._callback: Callback[Reading[SignalDatatypeT]] | None = None

    def source(self, name: str, read: bool) -> str:
        """Return the status socket, and which part of the status it is."""
        return f"ptystream+{self._link.status}#{self._key}"

    async def connect(self, timeout: float) -> None:
        """Connect the line that all signals share.

        Raises:
            NotConnectedError: no status came in time.
        """
        try:
            await self._link.connect(timeout)
        except StoppedError as error:
            raise NotConnectedError(str(error)) from error

    async def put(self, value: SignalDatatypeT | None) -> None:
        """Refuse: TypeError."""
        raise TypeError(f"{self._key} can only be read")

    async def get_datakey(self, source: str) -> DataKey:
        """Return source, type and unit."""
        return data_key(self._datatype, source, self._units)

    async def get_reading(self) -> Reading[SignalDatatypeT]:
        """Return the value, and when the service published it."""
        return self._reading(self._known())

    async def get_value(self) -> SignalDatatypeT:
        """Return the value."""
        return self._reading(self._known())["value"]

    async def get_setpoint(self) -> SignalDatatypeT:
        """Return the value: nobody asked for another."""
        return await self.get_value()

    def set_callback(self, callback: Callback[Reading[SignalDatatypeT]] | None) -> None:
        """Have each new value told, the present one at once; None: no more."""
        if callback is not None and self._callback is not None:
            raise RuntimeError("Cannot set a callback when one is already set")
        if callback is None:
            if self._callback is not None:
                self._link.unlisten(self._on_status)
            self._callback = None
            return
        self._callback = callback
        callback(self._reading(self._known()))
        self._link.listen(self._on_status)

    def _known(self) -> Status:
        if self._link.latest is None:
            raise NotConnectedError(f"no status from {self._link.status} yet")
        return self._link.latest

    def _reading(self, status: Status) -> Reading[SignalDatatypeT]:
        value = self._datatype(self._pick(status))
        return Reading(value=value, timestamp=status["time"], alarm_severity=0)

    def _on_status(self, status: Status) -> None:
        if self._callback is not None:
            self._callback(self._reading(status))


def status_signal(
    datatype: type[SignalDatatypeT],
    link: ServiceLink,
    key: str,
    pick: Callable[[Status], Any],
    units: str | None = None,
) -> SignalR[SignalDatatypeT]:
    """Return a signal that reads a part of the service's status."""
    return SignalR(StatusBackend(datatype, link, key, pick, units))
