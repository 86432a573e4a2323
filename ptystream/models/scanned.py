"""What the coordinates of a field span, where that is the scan itself."""

from ptystream.models.field import Box


class Scanned:
    """The square that holds all that was covered before the field was first read.

    Both papers know the whole scan beforehand, and so does an offline run. Live, the
    square is that of the first exposures; what comes later lies outside [0, 1].
    """

    def __init__(self) -> None:
        self._seen: Box | None = None
        self._settled = False

    def cover(self, box: Box) -> None:
        """Take note of a box; once read, nothing changes any more."""
        if not self._settled:
            self._seen = box if self._seen is None else self._seen.union(box)

    def square(self, box: Box) -> Box:
        """Return the square, settled by this first reading of the box."""
        self.cover(box)
        self._settled = True
        seen = self._seen or box
        side = max(seen.h, seen.w)
        return Box(seen.y, seen.x, side, side)
