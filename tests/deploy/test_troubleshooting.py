"""The page of symptoms speaks of settings, metrics and losses that exist."""

import json
import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from ptystream.config import schema
from ptystream.metrics import Metrics
from ptystream.service.observing import LOSSES

PAGE = Path(__file__).parents[2] / "deploy" / "TROUBLESHOOTING.md"
WORDS = re.findall(r"`([^`]+)`", PAGE.read_text(encoding="utf-8"))


def settings(node: dict, defs: dict, path: str = "") -> set[str]:
    """Return every dotted key, groups among them."""
    found = {path} if path else set()
    for choice in [node, *node.get("anyOf", ()), *node.get("allOf", ())]:
        if "$ref" in choice:
            choice = defs[choice["$ref"].rpartition("/")[2]]
        for name, child in choice.get("properties", {}).items():
            found |= settings(child, defs, f"{path}.{name}".lstrip("."))
    return found


def test_every_setting_exists():
    tree = json.loads(schema())
    known = settings(tree, tree["$defs"])
    groups = {key.partition(".")[0] for key in known}
    told = {word.partition(" ")[0] for word in WORDS}
    keys = {k for k in told if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", k)}
    keys = {k for k in keys if k.partition(".")[0] in groups}
    assert len(keys) > 15
    assert not keys - known


def test_every_metric_exists():
    registry = CollectorRegistry()
    Metrics(registry)
    known = {m.name for m in registry.collect()}
    told = {w.removesuffix("_total") for w in WORDS if w.startswith("ptystream_")}
    assert told
    assert not told - known


def test_every_loss_is_explained():
    text = PAGE.read_text(encoding="utf-8")
    assert not [name for name in LOSSES if f"`{name}`" not in text]
