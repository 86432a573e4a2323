"""A scan's first messages, held back until its frames have shown where the beam is."""

import numpy as np

from ptystream.wire.envelope import EncodedFrame
from ptystream.wire.messages import Message

_LIT = 8  # frames with light that tell the centre
_HELD = 64  # messages that wait for it at most: the first frames may be empty
_WAIT_S = 2.0  # and so long at most from the first frame: slow scans must show, too


class FirstFrames:
    """Holds at most 64 messages, for 2 s, until 8 frames had light."""

    def __init__(self) -> None:
        self._held: list[Message | EncodedFrame] = []
        self._since_s: float | None = None
        self.lit = 0
        self.light: np.ndarray | None = None

    def hold(self, message: Message | EncodedFrame) -> None:
        """Keep a message."""
        self._held.append(message)

    def see(self, light: np.ndarray, now_s: float) -> None:
        """Add a frame's counts ``[h, w]``, 0 where they aren't believed."""
        self._since_s = now_s if self._since_s is None else self._since_s
        if self.light is None or self.light.shape != light.shape:
            self.light = np.zeros(light.shape)
        self.light += light
        self.lit += bool(light.any())

    def enough(self, now_s: float) -> bool:
        """Tell whether no more is to be waited for."""
        waited = self._since_s is not None and now_s - self._since_s >= _WAIT_S
        return waited or self.lit >= _LIT or len(self._held) >= _HELD

    def release(self) -> list[Message | EncodedFrame]:
        """Return what was held, in order, and forget it and the light."""
        held, self._held, self.light = self._held, [], None
        return held
