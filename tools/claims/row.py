"""One line of the table, and how it is written."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A claim: what the paper says and shows, what we found, whether it holds.

    ``paper`` is A (PtyINR, Li et al.) or B (deep generative priors, McCray et al.);
    ``holds`` is None where the claim can't be told at this size.
    """

    paper: str
    claim: str
    figure: str
    ours: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        """Return it in a word."""
        return {True: "holds", False: "does not hold", None: "not told"}[self.holds]


def markdown(rows: Iterable[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| paper | claim | paper's figure | ours | verdict |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (row.paper, row.claim, row.figure, row.ours, row.verdict)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
