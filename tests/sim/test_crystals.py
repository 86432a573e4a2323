import numpy as np
import pytest

from ptystream.sim.crystals import (
    COMPOUNDS,
    GOLD_M,
    Area,
    carbon_film,
    gold_particle,
    layer,
    together,
)

AREA = Area((1e-9, -3e-9), (6e-9, 4e-9))
SURFACE_M2 = 5e-9 * 7e-9


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def nearest(of: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Distance to the nearest other atom, for each."""
    apart = np.linalg.norm(of[:, None] - to[None], axis=-1)
    return np.where(apart < 1e-14, np.inf, apart).min(axis=1)


def inner(points: np.ndarray, margin_m: float = 5e-10) -> np.ndarray:
    low, high = np.array(AREA.low_m) + margin_m, np.array(AREA.high_m) - margin_m
    return points[((points[:, 1:] > low) & (points[:, 1:] < high)).all(axis=1)]


def sheet(material: str = "MoS2", turn_rad: float = 0.0, vacancies: float = 0.0):
    return layer(
        COMPOUNDS[material],
        AREA,
        z_m=4e-10,
        turn_rad=turn_rad,
        vacancies=vacancies,
        rng=rng(),
    )


@pytest.mark.parametrize(
    ("material", "a_m", "bond_m"),
    [("MoS2", 3.16e-10, 2.41e-10), ("WSe2", 3.282e-10, 2.53e-10)],
)
@pytest.mark.parametrize("turn_rad", [0.0, 0.4])
def test_a_layer_has_its_materials_distances(material, a_m, bond_m, turn_rad):
    atoms = sheet(material, turn_rad)
    metal, chalcogen = atoms.values()
    assert np.allclose(nearest(inner(metal), metal), a_m)
    assert np.allclose(nearest(inner(chalcogen), metal), bond_m, rtol=3e-3)
    # Each chalcogen has three metals round it.
    apart = np.linalg.norm(inner(chalcogen)[:, None] - metal[None], axis=-1)
    assert ((apart < 1.05 * bond_m).sum(axis=1) == 3).all()


@pytest.mark.parametrize("turn_rad", [0.0, 0.4, 1.5])
def test_a_layer_covers_the_area(turn_rad):
    metal, chalcogen = sheet(turn_rad=turn_rad).values()
    cells = SURFACE_M2 / (np.sqrt(3) / 2 * COMPOUNDS["MoS2"].a_m ** 2)
    assert len(metal) == pytest.approx(cells, rel=0.08)
    assert len(chalcogen) == pytest.approx(2 * cells, rel=0.08)
    assert AREA.holds(metal).all()
    assert AREA.holds(chalcogen).all()


def test_a_layer_turns_from_x_to_y():
    metal = sheet(turn_rad=0.2)["Mo"]
    origin = metal[np.argmin(np.linalg.norm(metal[:, 1:] - AREA.centre_m, axis=1))]
    apart = metal - origin
    close = apart[np.abs(np.linalg.norm(apart, axis=1) - 3.16e-10) < 1e-13]
    angles = np.arctan2(close[:, 1], close[:, 2])
    assert np.abs(angles - 0.2).min() < 1e-9


def test_vacancies_are_missing_chalcogens():
    whole, holed = sheet(), sheet(vacancies=0.1)
    assert np.array_equal(whole["Mo"], holed["Mo"])
    missing = 1 - len(holed["S"]) / len(whole["S"])
    assert missing == pytest.approx(0.1, abs=0.04)


def test_gold_is_face_centred_and_seen_along_110():
    particle = gold_particle(3e-9, 3e-9, np.array([0.0, 1e-9, 2e-9]), 0.7)["Au"]
    assert np.allclose(nearest(particle, particle), GOLD_M / np.sqrt(2))
    columns = np.unique(np.round(particle[:, 1:] * 1e13).astype(int), axis=0) * 1e-13
    spacing = np.linalg.norm(columns[:, None] - columns[None], axis=-1)
    apart = np.unique(np.round(spacing[spacing > 1e-11] * 1e12))[:2]
    # Neighbouring columns lie √3/8 a (2.50 Å) apart, then 1/√2 a (2.88 Å).
    assert np.allclose(apart, [250, 288], atol=1)
    assert np.allclose(particle.mean(axis=0), [0, 1e-9, 2e-9], atol=1e-12)


def test_a_particle_has_its_size_and_height():
    particle = gold_particle(4e-9, 8e-10, np.zeros(3), 0.0)["Au"]
    assert np.ptp(particle[:, 0]) <= 8e-10
    assert np.ptp(particle[:, 1]) == pytest.approx(4e-9, abs=GOLD_M)
    density = len(gold_particle(4e-9, 4e-9, np.zeros(3), 0.0)["Au"]) * GOLD_M**3 / 4
    assert 0.5 < density / 4e-9**3 < 0.9  # a truncated octahedron in its cube


def test_carbon_is_even_and_has_no_order():
    film = carbon_film(AREA, top_m=1e-9, bottom_m=3e-9, rng=rng())["C"]
    assert len(film) == pytest.approx(1e29 * SURFACE_M2 * 2e-9, rel=0.1)
    assert film[:, 0].min() >= 1e-9
    assert film[:, 0].max() <= 3e-9
    assert AREA.holds(film).all()
    # A lattice of its cells would give a line as strong as all atoms together.
    cell_m = 5e-9 / round(5e-9 * 1e29 ** (1 / 3))
    line = np.abs(np.exp(2j * np.pi * film[:, 1] / cell_m).mean())
    assert line < 4 / np.sqrt(len(film))


def test_no_film_is_no_atoms():
    assert carbon_film(AREA, top_m=1e-9, bottom_m=1e-9, rng=rng()) == {}


def test_parts_keep_all_their_atoms():
    first, second = sheet("MoS2"), sheet("WSe2")
    both = together(first, second, first)
    assert len(both["Mo"]) == 2 * len(first["Mo"])
    assert len(both["Se"]) == len(second["Se"])
