"""Complex numbers as colour: hue is phase, lightness is amplitude."""

import numpy as np

CHROMA = 0.125
"""In OKLCh: about the largest that stays inside sRGB at every hue for mid lightness."""

_OKLAB_TO_LMS = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_LMS_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def phase_colours(phase: np.ndarray, strength: np.ndarray | float = 1.0) -> np.ndarray:
    """Return sRGB ``[..., 3]`` in 0..1; strength 0 is black, 1 is full colour.

    All hues look equally light, unlike HSV's, so no phase seems brighter.
    """
    strength = np.broadcast_to(np.clip(strength, 0, 1), np.shape(phase))
    chroma = CHROMA * strength
    lab = np.stack(
        [0.74 * strength, chroma * np.cos(phase), chroma * np.sin(phase)], axis=-1
    )
    linear = np.clip(((lab @ _OKLAB_TO_LMS.T) ** 3) @ _LMS_TO_RGB.T, 0, 1)
    return np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )


def wheel(size: int = 128) -> np.ndarray:
    """Return the legend as RGBA ``[size, size, 4]``: amplitude grows outwards."""
    axis = np.linspace(-1.02, 1.02, size)
    y, x = -axis[:, None], axis[None, :]
    radius = np.hypot(y, x)
    alpha = np.clip((1.0 - radius) * size / 2, 0, 1)
    return np.dstack([phase_colours(np.arctan2(y, x), radius), alpha])
