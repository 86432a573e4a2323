"""A service's status as words: for the demo's display and for ``watch``."""

from typing import Any

from rich.table import Table


def facts(state: dict[str, Any]) -> list[tuple[str, str]]:
    """Return names and values that a scientist wants to see while it runs."""
    frames, quality = state["frames"], state["quality"]
    lost = sum(frames["lost"].values())
    return [
        ("state", state["state"]),
        ("frames", f"{frames['received']} of {frames['expected'] or '?'}"),
        ("lost", str(lost)),
        ("lag", f"{number(state['lag_s'])} s"),
        ("steps", str(state["step"])),
        ("loss", number(quality.get("loss"))),
        ("held-out error", number(quality.get("held_out_error"))),
        ("empty object's", number(quality.get("flat_error"))),
        ("covered", f"{quality.get('covered') or 0:.0%}"),
    ]


def number(value: float | None) -> str:
    """Return three digits, or a dash for what is not known yet."""
    return "-" if value is None else f"{value:.3g}"


def table(rows: list[tuple[str, str]]) -> Table:
    """Return two columns."""
    made = Table(show_header=False, box=None, padding=(0, 2))
    for name, value in rows:
        made.add_row(f"[dim]{name}", value)
    return made


def plain(rows: list[tuple[str, str]]) -> str:
    """Return them in one line."""
    return "  ".join(f"{name} {value}" for name, value in rows)
