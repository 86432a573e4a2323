"""Pure torch physics: geometry, propagation, forward models, losses, probes."""
