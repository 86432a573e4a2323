"""The sources and lenses that a simulated beamline can be told to have."""

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from ptystream.sim.electrons import wavelength_m
from ptystream.sim.quantities import (
    Finite,
    Group,
    NotNegative,
    Positive,
    kind_of,
)
from ptystream.wire.messages import PLANCK_EV_M


class ZonePlateSettings(Group):
    """X-rays and a zone plate."""

    kind: Literal["zone_plate"] = "zone_plate"
    """X-rays."""
    energy_ev: Positive = 10_000.0
    """Photon energy, in eV."""
    zone_plate_diameter_m: Positive = 150e-6
    """Diameter of the zone plate, in metres."""
    outer_zone_m: Positive = 50e-9
    """Width of its outermost zone, in metres."""
    stop_m: NotNegative = 50e-6
    """Diameter of the central stop, in metres; 0 for none."""
    defocus_m: Finite = 150e-6
    """How far downstream of the focus the specimen truly stands, in metres."""
    defocus_error: Finite = 0.2
    """By what share the defocus on the wire is larger than the true one."""
    photons_per_frame: Positive = 1e6
    """Photons on the specimen in one exposure: the scale of all intensities."""
    mode_powers: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=10)] = (
        1.0,
    )
    """Share of the power in each mode of the probe."""

    @model_validator(mode="after")
    def _stop_fits(self) -> Self:
        if self.stop_m >= self.zone_plate_diameter_m:
            raise ValueError("stop_m: expected less than zone_plate_diameter_m")
        return self

    @property
    def wavelength_m(self) -> float:
        """Of the photons, in metres."""
        return PLANCK_EV_M / self.energy_ev

    def per_frame(self, _step_m: tuple[float, float]) -> float:
        """Return the photons in one exposure."""
        return self.photons_per_frame


class ElectronSettings(Group):
    """Electrons and a round aperture."""

    kind: Literal["electrons"]
    """Electrons."""
    voltage_v: Annotated[float, Field(ge=1e3, le=1e7)] = 300e3
    """Accelerating voltage, in volts."""
    semi_angle_rad: Positive = 20e-3
    """Half the angle of convergence, in radians."""
    defocus_m: Finite = 20e-9
    """How far downstream of the crossover the middle of the truth's first slice
    lies, in metres."""
    defocus_error: Finite = 0.2
    """By what share the defocus on the wire is larger than the true one."""
    aberrations: tuple[tuple[int, int, Finite, Finite], ...] = ()
    """Rows of n, m, C_nm in metres and its angle in radians: the phase of the aperture
    is exp(-i 2π/λ Σ C αⁿ⁺¹ cos m(φ - angle) / (n + 1))."""
    electrons_per_angstrom2: Positive = 1e4
    """Dose: an exposure gets this times the area of a step."""
    source_m: NotNegative = 0.0
    """Rms radius per axis of the source's image on the specimen, in metres."""
    focal_spread_m: NotNegative = 0.0
    """Rms of the focus over the energies of the source, in metres."""
    modes: Annotated[int, Field(gt=0, le=32)] = 1
    """Modes kept of a partially coherent probe, the strongest ones."""

    @property
    def wavelength_m(self) -> float:
        """Of the electrons, in metres."""
        return wavelength_m(self.voltage_v)

    def per_frame(self, step_m: tuple[float, float]) -> float:
        """Return the electrons in one exposure."""
        return self.electrons_per_angstrom2 * 1e20 * step_m[0] * step_m[1]


AnyOptics = Annotated[
    Annotated[ZonePlateSettings, Tag("zone_plate")]
    | Annotated[ElectronSettings, Tag("electrons")],
    Discriminator(lambda value: kind_of(value, "zone_plate")),
]
"""Source and lens; X-rays unless ``kind`` says otherwise."""
