"""What a simulated beamline can be called by name: changes to the defaults.

``-full`` is a paper's size, for a GPU; the same name without it is the same experiment
made small enough for two cores.
"""

from collections.abc import Mapping
from typing import Any

Changes = Mapping[str, Any]

_ON_THE_GRID: Changes = {"jitter_m": 0.0, "rate_hz": 100.0, "line_pause_s": 0.0}
_STILL: Changes = {"noise_m": 0.0, "per_frame": 1}


def _overlap(side: int, overlap: float, canvas_px: int) -> Changes:
    """Paper A's simulation: an exact raster of whole pixels, nothing but the steps.

    Its probe, cut from a measurement, has an amplitude 5 px wide at half maximum; so
    has this one. The published code divides amplitudes by 600, for a probe of maximum
    1: that is 10⁷ photons, on which a standard deviation of 100 counts means the same.
    """
    return {
        "sample": {"canvas_px": (canvas_px, canvas_px)},
        "optics": {
            "outer_zone_m": 100e-9,
            "defocus_m": 200e-6,
            "photons_per_frame": 1e7,
        },
        "scan": {**_ON_THE_GRID, "shape": (side, side), "overlap": overlap},
        "detector": {"noise": "none", "dtype": "uint32"},
        "encoder": _STILL,
    }


def _electrons(
    sample: Changes,
    optics: Changes,
    *,
    side: int,
    step_m: float,
    pixels: int,
    pixel_rad: float,
) -> Changes:
    return {
        "sample": sample,
        "optics": {"kind": "electrons", **optics},
        "scan": {
            "shape": (side, side),
            "step_m": step_m,
            "jitter_m": 0.02 * step_m,
            "centre_m": (0.0, 0.0),
            "rate_hz": 200.0,
            "line_pause_s": 0.0,
        },
        "detector": {"size_px": pixels, "pixel_rad": pixel_rad},
        "encoder": {"noise_m": 0.0, "per_frame": 2},
    }


def _nanoparticle(side: int, particles: int) -> Changes:
    """Gold on carbon; paper B says no more of it, so the microscope is a usual one."""
    return _electrons(
        {"kind": "nanoparticle", "particles": particles},
        {
            "voltage_v": 300e3,
            "semi_angle_rad": 20e-3,
            "defocus_m": 20e-9,
            "electrons_per_angstrom2": 1e4,
        },
        side=side,
        step_m=2e-10,
        pixels=64,
        pixel_rad=1.25e-3,
    )


def _lattice(side: int, pixels: int) -> Changes:
    """Paper B's low dose, 100 electrons/Å², on a specimen of which all is known."""
    return _electrons(
        {"kind": "layers", "material": "MoS2", "vacancies": 0.03},
        {
            "voltage_v": 80e3,
            "semi_angle_rad": 21.4e-3,
            "defocus_m": 20e-9,
            "electrons_per_angstrom2": 100,
        },
        side=side,
        step_m=1.5e-10,
        pixels=pixels,
        pixel_rad=2e-3,
    )


def _bilayer(side: int, pixels: int, pixel_rad: float) -> Changes:
    """Paper B's WSe2: 80 kV, 24.9 mrad, steps of 0.429 Å, 16 slices of 1 Å, 6 modes.

    The dose is that of 33 pA for 1 ms a point; source and focal spread are our own.
    """
    return _electrons(
        {
            "kind": "layers",
            "material": "WSe2",
            "layers": 2,
            "slices": 16,
            "slice_m": 1e-10,
            "sub_slices": 1,
        },
        {
            "voltage_v": 80e3,
            "semi_angle_rad": 24.9e-3,
            "defocus_m": 0.0,
            "electrons_per_angstrom2": 1.1e6,
            "source_m": 2e-11,
            "focal_spread_m": 3e-9,
            "modes": 6,
        },
        side=side,
        step_m=0.429e-10,
        pixels=pixels,
        pixel_rad=pixel_rad,
    )


TABLE: Mapping[str, Changes] = {
    "dense": {},
    # Twice the defocus: a probe of 10 px would leave dark gaps between steps of 32.
    "half": {
        "optics": {"defocus_m": 300e-6},
        "scan": {"shape": (8, 8), "overlap": 0.5, "rate_hz": 20.0},
    },
    "sparse": {
        "optics": {"defocus_m": 300e-6},
        "scan": {"shape": (6, 6), "overlap": 0.3, "rate_hz": 20.0},
    },
    # 2,500 frames in 25 s, and 49 turn-arounds of 0.08 s: 29 s.
    "demo": {"scan": {"shape": (50, 50), "overlap": 0.9375, "line_pause_s": 0.08}},
    "low-dose": {
        "optics": {"photons_per_frame": 1e4},
        "scan": {"shape": (20, 20), "overlap": 0.85, "rate_hz": 40.0},
    },
    # Steps of 3, 32 and 45 px of 64.
    "overlap-95": _overlap(60, 0.95, 241),
    "overlap-50": _overlap(8, 0.5, 288),
    "overlap-30": _overlap(6, 0.3, 289),
    "nanoparticle": _nanoparticle(30, 1),
    "nanoparticle-full": _nanoparticle(128, 20),
    "lattice": _lattice(24, 64),
    "lattice-full": _lattice(96, 128),
    # Half the window, 9.6 Å, with the same object pixel of 0.149 Å.
    "bilayer": _bilayer(32, 64, 4.368e-3),
    "bilayer-full": _bilayer(128, 128, 2.184e-3),
}
"""Changes to the defaults by preset."""
