"""The specimens that a simulated beamline can be told to hold."""

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from ptystream.sim.quantities import (
    Count,
    Finite,
    Group,
    NotNegative,
    Positive,
    Share,
    kind_of,
)

Material = Literal["MoS2", "WSe2"]


class _Placed(Group):
    name: str = "simulated"
    """What the scan's metadata calls it."""
    margin_px: Annotated[int, Field(ge=4)] = 8
    """Object pixels beyond the outermost illuminated windows."""
    canvas_px: tuple[Count, Count] | None = None
    """Shape of the object, the scan in its middle; none: what is lit, and a margin."""


class PictureSettings(_Placed):
    """Two pictures: one is the amplitude, the other the phase."""

    kind: Literal["pictures"] = "pictures"
    """A thin object of two pictures."""
    amplitude_picture: str = "cells"
    """cells, star, circuit, particles, or an image file (PNG, NPY)."""
    phase_picture: str = "circuit"
    """The same choice, for the phase."""
    amplitude: tuple[NotNegative, NotNegative] = (0.6, 1.0)
    """Transmitted amplitude where the picture is 0, and where it is 1."""
    phase_rad: tuple[Finite, Finite] = (0.0, 1.0)
    """Phase where the picture is 0, and where it is 1, in radians."""


class _Atoms(_Placed):
    slices: Count = 1
    """Slices along the beam of the truth: what a solver may hope to tell apart."""
    slice_m: Positive
    """Their thickness, in metres; all of them together hold the specimen."""
    sub_slices: Annotated[int, Field(gt=0, le=256)] = 1
    """Thinner slices, in each of those, that the simulation goes through."""
    thermal_m: NotNegative = 8e-12
    """Rms of the atoms' vibration per axis, in metres (B = 8π²u²: 0.5 Å²)."""
    finer: Annotated[int, Field(ge=2, le=4)] = 2
    """How much smaller than the object's the pixels of the simulation are."""
    wider: Annotated[int, Field(ge=1, le=4)] = 1
    """How much wider than a pattern's window that of the simulation is; a detector
    pixel then takes the light over its whole area."""

    @property
    def thickness_m(self) -> float:
        """All slices together."""
        return self.slices * self.slice_m


class NanoparticleSettings(_Atoms):
    """Gold crystals, seen along [110], on a film of amorphous carbon."""

    kind: Literal["nanoparticle"]
    """Nanoparticles on carbon."""
    slice_m: Positive = 2e-9
    """Their thickness, in metres; all of them together hold the specimen."""
    sub_slices: Annotated[int, Field(gt=0, le=256)] = 8
    """Thinner slices, in each of those, that the simulation goes through."""
    diameter_m: Positive = 3.5e-9
    """Of the particles, between opposite {100} facets, in metres."""
    height_m: Positive = 8e-10
    """Of the particles, along the beam, in metres. They are flat: a column of three
    gold atoms turns the phase by 2.9 rad (300 kV, a pixel of 0.25 Å), and of π a single
    slice can't tell the sign."""
    particles: Count = 1
    """The first lies in the middle, the others anywhere, turned at random."""
    carbon_m: NotNegative = 1e-9
    """Thickness of the film below (downstream of) the particles, in metres."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.height_m + self.carbon_m > self.thickness_m:
            raise ValueError("height_m + carbon_m: expected at most slices * slice_m")
        return self


class LayerSettings(_Atoms):
    """One or two layers of a transition metal dichalcogenide."""

    kind: Literal["layers"]
    """A monolayer, or a twisted bilayer."""
    slice_m: Positive = 8e-10
    """Their thickness, in metres; all of them together hold the specimen."""
    sub_slices: Annotated[int, Field(gt=0, le=256)] = 4
    """Thinner slices, in each of those, that the simulation goes through."""
    material: Material = "MoS2"
    """Metal and chalcogen."""
    layers: Literal[1, 2] = 1
    """How many."""
    spacing_m: Positive = 7e-10
    """From metal to metal of two layers, in metres (paper B finds 7 Å for WSe2)."""
    twist_rad: Finite = 0.05236
    """Angle between two layers, in radians (paper B: 3°)."""
    turn_rad: Finite = 0.1
    """Angle of the first layer's a axis to the lines of the scan, in radians."""
    vacancies: Share = 0.0
    """Share of the chalcogen atoms that are missing."""


AnySample = Annotated[
    Annotated[PictureSettings, Tag("pictures")]
    | Annotated[NanoparticleSettings, Tag("nanoparticle")]
    | Annotated[LayerSettings, Tag("layers")],
    Discriminator(lambda value: kind_of(value, "pictures")),
]
"""A specimen; two pictures unless ``kind`` says otherwise."""
AtomSettings = NanoparticleSettings | LayerSettings
"""Specimens made of atoms: for electrons."""
