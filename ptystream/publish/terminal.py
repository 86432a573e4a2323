"""A preview in coloured characters, two pixels to each: for a session over ssh."""

import numpy as np
from rich.style import Style
from rich.text import Text

from ptystream.publish import view
from ptystream.publish.colour import phase_colours
from ptystream.publish.images import Image, Picture

HALF = "\N{UPPER HALF BLOCK}"
UNLIT = np.array([70, 74, 82], np.uint8)
WEAK_RAD = 4.0
"""A phase that spans less is shown in greys: on a cycle of 2π it would be flat."""


def drawn(picture: Picture, *, columns: int, rows: int) -> tuple[Text, str] | None:
    """Return the object's phase, and its size in words; None without one.

    Args:
        picture: a preview.
        columns: characters that it may be wide.
        rows: lines that it may be high; a character is two pixels high.
    """
    layers = {image.name: image for image in picture.images}
    image = layers.get("object_phase")
    if image is None or image.pixels.ndim != 2 or not image.pixels.size:
        return None
    lit = _lit(layers.get("coverage"), image.pixels.shape)
    ys, xs = (slice(n.min(), n.max() + 1) for n in np.nonzero(lit))
    phase, lit = image.values()[ys, xs], lit[ys, xs]
    height, width = phase.shape
    factor = max(1, -(-width // max(columns, 1)), -(-height // max(2 * rows, 1)))
    turned = np.angle(view.shrink(np.exp(1j * phase), factor))
    seen = view.shrink(lit.astype(np.float32), factor) >= 0.5
    extent = (
        n * p * 1e6 for n, p in zip((width, height), image.pixel_m[::-1], strict=True)
    )
    return _blocks(_colours(turned, seen)), "phase, {:.3g} × {:.3g} µm".format(*extent)


def _lit(coverage: Image | None, shape: tuple[int, ...]) -> np.ndarray:
    """Return where the scan has put light; everywhere if that isn't told."""
    if coverage is None or coverage.pixels.shape != shape:
        return np.ones(shape, bool)
    lit = view.lit(coverage.values())
    return lit if lit.any() else np.ones(shape, bool)


def _colours(phase: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return sRGB bytes ``[h, w, 3]``; what is unlit is grey."""
    low, high = np.percentile(phase[seen] if seen.any() else phase, (1, 99))
    if high - low > WEAK_RAD:
        colours = phase_colours(phase)
    else:
        share = np.clip((phase - low) / max(high - low, 1e-6), 0, 1)
        colours = np.repeat(share[..., None], 3, axis=-1)
    made = np.round(255 * colours).astype(np.uint8)
    made[~seen] = UNLIT
    return made


def _blocks(colours: np.ndarray) -> Text:
    """Return half blocks: the upper pixel is ink, the lower is ground."""
    if len(colours) % 2:
        colours = np.concatenate([colours, np.broadcast_to(UNLIT, colours[:1].shape)])
    text = Text(no_wrap=True, end="")
    for upper, lower in zip(colours[::2], colours[1::2], strict=True):
        for ink, ground in zip(upper, lower, strict=True):
            text.append(HALF, Style(color=_named(ink), bgcolor=_named(ground)))
        text.append("\n")
    return text


def _named(colour: np.ndarray) -> str:
    return f"#{colour[0]:02x}{colour[1]:02x}{colour[2]:02x}"
