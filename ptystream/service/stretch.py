"""Encoder scales that are known only once a scan's run is: its documents tell them."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from ptystream.config import Config
from ptystream.ingest.documents import Found, Value
from ptystream.settings import AxisSettings
from ptystream.wire.messages import Exposure

Point = tuple[float, float]


class Stretch:
    """Puts exposures where a document's metres a count say, instead of ``scale_m``.

    A direction is the settings' alone: of the documents' scales only the size counts.
    """

    def __init__(
        self, config: Config, found: Mapping[Value, Found] = MappingProxyType({})
    ) -> None:
        axes = config.positions.y, config.positions.x
        told = found.get("y_scale_m"), found.get("x_scale_m")
        self._factors = tuple(map(_factor, axes, told))
        self._offsets = tuple(axis.offset_m if axis else 0.0 for axis in axes)

    def __call__(self, exposure: Exposure) -> Exposure:
        """Return the exposure where it was taken."""
        if self._factors == (1.0, 1.0):
            return exposure
        return replace(
            exposure,
            start_m=self._moved(exposure.start_m),
            mean_m=self._moved(exposure.mean_m),
            end_m=self._moved(exposure.end_m),
        )

    def _moved(self, point_m: Point) -> Point:
        y, x = (
            (m - offset) * factor + offset
            for m, factor, offset in zip(
                point_m, self._factors, self._offsets, strict=True
            )
        )
        return y, x


def _factor(axis: AxisSettings | None, told: Found | None) -> float:
    if axis is None or axis.scale_m is None or told is None:
        return 1.0
    return abs(told.value / axis.scale_m)
