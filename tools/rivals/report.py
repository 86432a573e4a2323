"""The table, and whether what was promised holds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tools.rivals.environments import OURS
from tools.rivals.judge import PARTS, Pair, Point, at, best
from tools.rivals.problems import PROBLEMS, STAR
from tools.rivals.result import Result, better, names

WORSE_DB, NOISE_DB, FEW_DB = 0.5, 3.0, 10.0
"""At the best peer's time: how much worse on dense clean scans, how much better in
noise (both parts), and with few frames (either part)."""


@dataclass(frozen=True)
class Claim:
    """A promise: what, the figure found, and whether it holds (None: not told)."""

    what: str
    found: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        """Return it in a word."""
        return {True: "yes", False: "no", None: "not told"}[self.holds]


@dataclass(frozen=True)
class Contest:
    """One problem's competitors, each with its better settings.

    ``rivals_db`` is the best amplitude and the best phase of any peer's best state;
    ``ours`` is where we stood when the best of them had reached its own.
    """

    problem: str
    entries: tuple[Result, ...]
    rivals_db: Pair | None
    ours: Point | None
    leader: str


def contest(problem: str, results: Sequence[Result]) -> Contest:
    """Return a problem's contest."""
    here = [r for r in results if r.problem == problem]
    entries = tuple(
        better([r for r in here if r.label == label]) for label in names(here, "label")
    )
    tops = {r.label: top for r in entries if (top := best(r.points)) is not None}
    mine = [r for r in entries if r.label == OURS.name]
    peers = {label: top for label, top in tops.items() if label != OURS.name}
    if not peers or not mine:
        return Contest(problem, entries, None, None, "")
    leader = max(peers, key=lambda label: sum(peers[label].aligned))
    rivals = (
        max(top.aligned[0] for top in peers.values()),
        max(top.aligned[1] for top in peers.values()),
    )
    ours = at(mine[0].points, peers[leader].cpu_s)
    return Contest(problem, entries, rivals, ours, leader)


def claims(results: Sequence[Result]) -> Iterator[Claim]:
    """Yield each promise on the problems that were run."""
    for problem in names(results, "problem"):
        if problem == STAR or problem not in PROBLEMS:
            continue
        found = contest(problem, results)
        kind = PROBLEMS[problem].kind
        if kind != "other":
            yield _claim(found, kind)


def _claim(found: Contest, kind: str) -> Claim:
    what = {
        "dense": f"not worse than the best peer by more than {WORSE_DB:g} dB in either",
        "noise": f"at least {NOISE_DB:g} dB better than the best peer in both",
        "few": f"at least {FEW_DB:g} dB better than the best peer in one of them",
    }[kind]
    name = f"{found.problem}: {what}"
    if found.rivals_db is None or found.ours is None:
        return Claim(name, "no peer, or nothing of ours by then", None)
    ahead = [m - t for m, t in zip(found.ours.aligned, found.rivals_db, strict=True)]
    holds = {
        "dense": min(ahead) >= -WORSE_DB,
        "noise": min(ahead) >= NOISE_DB,
        "few": max(ahead) >= FEW_DB,
    }[kind]
    told = ", ".join(f"{p} {a:+.1f} dB" for p, a in zip(PARTS, ahead, strict=True))
    by = f"at {found.ours.cpu_s:.0f} s of processor, {found.leader} best"
    return Claim(name, f"{told} ({by})", holds)


def markdown(results: Sequence[Result], about: Mapping[str, Any]) -> str:
    """Return all tables."""
    versions = sorted({f"{k} {v}" for r in results for k, v in r.versions.items()})
    machine = ", ".join(f"{name} {value}" for name, value in about.items())
    lines = [f"{machine}; {', '.join(versions)}.", ""]
    lines += [
        "PSNR of amplitude / phase in dB, shift and ramp aligned, of the best state;",
        "in brackets as the paper aligns. Times to that state, imports included.",
        "",
    ]
    lines += _summary(results)
    for problem in names(results, "problem"):
        lines += _star(results) if problem == STAR else _table(problem, results)
    lines += ["| promised | found | holds |", "|---|---|---|"]
    lines += [f"| {c.what} | {c.found} | {c.verdict} |" for c in claims(results)]
    return "\n".join(lines) + "\n"


def _summary(results: Sequence[Result]) -> list[str]:
    """Return one row a problem: ours when the best peer had its best state."""
    lines = [
        "| | ptystream | best peer | after | an empty object |",
        "|---|---|---|---|---|",
    ]
    for problem in names(results, "problem"):
        found = contest(problem, results)
        if found.ours is None:
            continue
        (peer,) = [r for r in found.entries if r.label == found.leader]
        top = best(peer.points)
        if top is None:
            continue
        about = PROBLEMS[problem].about
        lines.append(
            f"| {about} | {_db(found.ours.aligned)} | {_db(top.aligned)}, {peer.label} "
            f"| {top.cpu_s:.0f} s | {_db(top.empty)} |"
        )
    return [*lines, ""]


def _table(problem: str, results: Sequence[Result]) -> list[str]:
    about = PROBLEMS[problem].about if problem in PROBLEMS else ""
    lines = [f"**{problem}**: {about}", ""]
    lines += [
        "| | settings | dB | processor s | wall s | MiB |",
        "|---|---|---|---|---|---|",
    ]
    empty = ""
    for r in contest(problem, results).entries:
        top = best(r.points)
        if top is None:
            why = " ".join(r.error.split()).replace("|", "/") or "nothing to score"
            lines.append(f"| {r.label} | {r.variant} | {why} | | | |")
            continue
        empty = f"An empty object: {_db(top.empty)}."
        cells = (
            r.label,
            r.variant,
            f"{_db(top.aligned)} ({_db(top.paper)})",
            f"{top.cpu_s:.0f}",
            f"{top.wall_s:.0f}",
            f"{r.peak_mib:.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, "", empty, ""]


def _star(results: Sequence[Result]) -> list[str]:
    lines = [
        f"**{STAR}**: measured; a half's error on the other half's frames, and the",
        "resolution at which both halves agree (half-bit)",
        "",
        "| | settings | held-out error | FRC nm | processor s | MiB |",
        "|---|---|---|---|---|---|",
    ]
    for r in contest(STAR, results).entries:
        if r.error or not r.star:
            why = " ".join(r.error.split()).replace("|", "/")
            lines.append(f"| {r.label} | {r.variant} | {why} | | | |")
            continue
        figures = f"{r.star['held_out']:.4f} | {r.star['frc_nm']:.1f} | {r.cpu_s:.0f}"
        lines.append(f"| {r.label} | {r.variant} | {figures} | {r.peak_mib:.0f} |")
    return [*lines, ""]


def _db(pair: Pair) -> str:
    return f"{pair[0]:.1f} / {pair[1]:.1f}"
