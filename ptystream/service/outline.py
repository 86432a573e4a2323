"""The few settings that whoever records a run should name."""

from typing import Any

from ptystream.config import Config


def outline(config: Config) -> dict[str, Any]:
    """Return how a service reconstructs, in short; safe as JSON."""
    o, p, e = config.object, config.probe, config.engine
    return {
        "presets": list(config.publish.presets),
        "object_field": o.field,
        "object_slices": o.slices,
        "probe_field": p.field,
        "probe_modes": p.modes,
        "model": config.physics.model,
        "loss": config.physics.loss,
        "batch": e.batch,
        "store": e.store,
        "held_out": e.held_out,
        "halves": config.quality.halves,
        "seed": e.seed,
    }
