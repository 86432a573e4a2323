"""The engine: a step, a snapshot, and how good it is."""
