"""What /metrics says, as the tables of deploy/README.md."""

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

OURS = "ptystream_"
ANY = ("sink", "version", "python", "torch", "device")
"""Labels whose values depend on the configuration or the machine."""


def families(text: str) -> list[Metric]:
    """Return our metrics, without when each began."""
    found = text_string_to_metric_families(text)
    return [f for f in found if f.name.startswith(OURS) and "_created" not in f.name]


def as_queried(family: Metric) -> str:
    """Return a metric's name as queries have it."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def labels(family: Metric) -> dict[str, list[str]]:
    """Return a metric's labels and their values."""
    found: dict[str, list[str]] = {}
    for sample in family.samples:
        for name, value in sample.labels.items():
            values = found.setdefault(name, [])
            if value not in values:
                values.append(value)
    return {name: values for name, values in found.items() if name != "le"}


def metrics_table(text: str) -> list[str]:
    """Return a row for each metric."""
    rows = ["| metric | type | labels | |", "|---|---|---|---|"]
    for family in families(text):
        names = ", ".join(f"`{name}`" for name in labels(family))
        name = f"`{as_queried(family)}`"
        rows.append(f"| {name} | {family.type} | {names} | {family.documentation} |")
    return rows


def labels_table(text: str) -> list[str]:
    """Return a row for each label of a closed set of values."""
    sets: dict[tuple[str, str], list[str]] = {}
    for family in families(text):
        for name, values in labels(family).items():
            if name not in ANY:
                key = name, ", ".join(f"`{value}`" for value in values)
                sets.setdefault(key, []).append(f"`{as_queried(family)}`")
    rows = ["| label | of | values |", "|---|---|---|"]
    for (name, values), names in sets.items():
        rows.append(f"| `{name}` | {', '.join(names)} | {values} |")
    return rows


def between(page: str, name: str) -> list[str]:
    """Return the lines between a page's markers of this name."""
    after = page.split(f"<!-- {name} -->\n")[1]
    return after.split(f"<!-- {name} end -->")[0].splitlines()
