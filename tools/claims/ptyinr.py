"""Paper A: PtyINR (Li et al.)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tools.claims.row import Row
from tools.claims.scene import Scene, scene
from tools.claims.solve import Solved, solve

CLASSICAL = ("epie", "rpie", "dm", "raar", "wasp", "apg", "ad")
PAPER_DB = {
    95: "28.3 (phase), 64.5 (amplitude), probe known",
    50: "35.0 / 42.7 dB (a flat object 23.1 / 12.2)",
    30: "24.6 / 35.3 dB (a flat object 23.1 / 12.2)",
}
SHAKEN = (("sample.canvas_px", None), ("scan.shake_px", 1))
"""An exact raster of small steps leaves DM, RAAR, APG and AD in its own ambiguity."""
TELLING_DB = 1.0
"""Smaller differences of one run say nothing."""
NOISES = {"Poisson": "scaled_poisson", "Gaussian": "gaussian", "mixed": "mixed"}


@dataclass(frozen=True)
class Size:
    """How large the tries are: seconds a run, and the network."""

    classical_s: float
    neural_s: float
    network: tuple[str, ...]
    raster: int


SMALL = Size(6.0, 18.0, ("object.width=64", "engine.siren_rate=5e-4"), 30)
FULL = Size(
    600.0,
    3600.0,
    ("object.width=512", "engine.siren_rate=6e-5", "engine.batch=512"),
    60,
)


def siren(size: Size, *more: str, sparse: bool = False) -> list[str]:
    """Return PtyINR's fields, at this size; few frames are seen all at once."""
    reach = ["engine.reach=10"] if sparse else []
    fields = ["object.field=siren", "probe.field=hashgrid", "engine.by_light=false"]
    return [*fields, *size.network, *reach, *more]


def overlaps(size: Size) -> Iterator[Row]:
    """PtyINR against each classical engine, by overlap, probe known and unknown."""
    for overlap in (95, 50, 30):
        taken = scene(f"overlap-{overlap}", *(SHAKEN if overlap == 95 else ()))
        for known in (True, False):
            network = solve(
                taken,
                siren(size, sparse=overlap < 95),
                seconds=size.neural_s,
                known=known,
            )
            yield from _against(
                taken,
                network,
                size,
                known=known,
                claim=f"PtyINR beats the classical engines at {overlap} % overlap",
                figure=PAPER_DB[overlap],
            )


def stars(size: Size) -> Iterator[Row]:
    """The sparse scans again, of an object with coarse and fine structure alike."""
    for overlap in (50, 30):
        taken = scene(f"overlap-{overlap}", ("sample.phase_picture", "star"))
        for known in (True, False):
            network = solve(
                taken, siren(size, sparse=True), seconds=size.neural_s, known=known
            )
            yield from _against(
                taken,
                network,
                size,
                known=known,
                claim=f"PtyINR beats the classical engines at {overlap} %, a star",
                figure=PAPER_DB[overlap],
            )


def noises(size: Size) -> Iterator[Row]:
    """The same in noise, at a dense overlap."""
    for name, kind in NOISES.items():
        shape = (size.raster, size.raster)
        taken = scene(
            "overlap-95",
            ("detector.noise", kind),
            ("scan.shape", shape),
            ("scan.overlap", 0.95 if size.raster == 60 else 0.9),
            *SHAKEN,
        )
        network = solve(taken, siren(size), seconds=size.neural_s)
        yield from _against(
            taken,
            network,
            size,
            known=False,
            claim=f"PtyINR beats the classical engines under {name} noise",
            figure="highest PSNR of all (figures 3, S5, S6)",
        )


def _against(
    taken: Scene,
    network: Solved,
    size: Size,
    *,
    known: bool,
    claim: str,
    figure: str,
) -> Iterator[Row]:
    """Yield PtyINR's row, and that of our default, against all classical engines."""
    others = {
        name: solve(taken, engine=name, seconds=size.classical_s, known=known)
        for name in CLASSICAL
    }
    ours = solve(taken, seconds=size.classical_s, known=known)
    probe = "probe known" if known else "probe unknown"
    best = _best(others)
    flat = network.score.flat_aligned
    empty = f"flat {flat.psnr_amplitude_db:.1f} / {flat.psnr_phase_db:.1f}"
    for name, mine in (("PtyINR", network), ("ptystream's default", ours)):
        yield Row(
            "A",
            f"{claim.replace('PtyINR', name, 1)}, {probe}",
            figure,
            f"{mine.text}; best of each: {best}; {empty}",
            _beats(mine, others),
        )


def _best(others: Mapping[str, Solved]) -> str:
    """Return the best amplitude and the best phase, and whose they are."""
    a = max(others, key=lambda n: others[n].amplitude_db)
    p = max(others, key=lambda n: others[n].phase_db)
    return f"{others[a].amplitude_db:.1f} ({a}) / {others[p].phase_db:.1f} ({p}) dB"


def _beats(mine: Solved, others: Mapping[str, Solved]) -> bool:
    """Tell whether amplitude and phase are at least those of every engine."""
    return all(
        mine.amplitude_db >= other.amplitude_db and mine.phase_db >= other.phase_db
        for other in others.values()
    )


def frequencies(size: Size) -> Iterator[Row]:
    """The trade of the first layer's frequency."""
    dense = scene("overlap-95", *SHAKEN)
    sparse = scene("overlap-50")
    got = {
        (name, omega): solve(
            taken,
            siren(size, f"object.omega0={omega}", sparse=name == "sparse"),
            seconds=size.neural_s,
            known=True,
        )
        for name, taken in (("dense", dense), ("sparse", sparse))
        for omega in (30, 90, 300)
    }
    for name, better, worse in (("dense", 90, 30), ("sparse", 30, 300)):
        first, second = got[name, better], got[name, worse]
        told = abs(first.phase_db - second.phase_db) >= TELLING_DB
        yield Row(
            "A",
            f"ω₀ {better} is better than {worse} where frames are "
            + ("many" if name == "dense" else "few"),
            "figure S17c",
            "; ".join(f"ω₀ {o}: {got[name, o].text}" for o in (30, 90, 300)),
            first.phase_db > second.phase_db if told else None,
        )


def ablations(size: Size) -> Iterator[Row]:
    """What the probe's normalisation and its penalty do, from a random start."""
    shape = (size.raster, size.raster)
    taken = scene(
        "overlap-95",
        ("scan.shape", shape),
        ("scan.overlap", 0.95 if size.raster == 60 else 0.9),
        *SHAKEN,
    )
    got = {}
    for norm in ("maximum", "none"):
        for penalty in (1e-2, 0.0):
            told = (
                "first_probe.source=random",
                f"probe.normalise={norm}",
                f"physics.probe_penalty={penalty}",
                "nuisance.scale=true",
                "object.flat=0.0",
            )
            got[norm, penalty] = solve(taken, siren(size, *told), seconds=size.neural_s)
    both, neither = got["maximum", 1e-2], got["none", 0.0]
    yield Row(
        "A",
        "from a random probe, normalisation and penalty together recover it best",
        "figure S15b",
        "; ".join(
            f"{norm}, λ {penalty:g}: {s.text}" for (norm, penalty), s in got.items()
        ),
        both.probe_error <= min(s.probe_error for s in got.values()) + 1e-3
        and both.probe_error < neither.probe_error,
    )


def fields(size: Size) -> Iterator[Row]:
    """Which representation suits the object, and which the probe."""
    taken = scene("overlap-50")
    wide = ("engine.reach=10",)
    by_siren = solve(taken, siren(size, sparse=True), seconds=size.neural_s, known=True)
    by_hash = solve(
        taken, ["object.field=hashgrid", *wide], seconds=size.neural_s, known=True
    )
    yield Row(
        "A",
        "for the object SIREN is better than a hash grid",
        "supplementary note",
        f"SIREN {by_siren.text}; hash grid {by_hash.text} (50 %, probe known)",
        by_siren.phase_db > by_hash.phase_db
        and by_siren.amplitude_db > by_hash.amplitude_db,
    )
    grid = solve(taken, siren(size, sparse=True), seconds=size.neural_s)
    tensor = solve(
        taken,
        siren(size, "probe.field=pixels", "probe.aberrations=0", sparse=True),
        seconds=size.neural_s,
    )
    told = abs(grid.probe_error - tensor.probe_error) >= 0.1 * tensor.probe_error
    yield Row(
        "A",
        "for the probe a hash grid is better than a tensor",
        "figure S16",
        f"hash grid {grid.text}; tensor {tensor.text} (50 %, SIREN object)",
        grid.probe_error < tensor.probe_error if told else None,
    )


CLAIMS = {
    "overlaps": overlaps,
    "stars": stars,
    "noises": noises,
    "frequencies": frequencies,
    "ablations": ablations,
    "fields": fields,
}
