"""A beamline on real sockets: its own forward model, and the truth in a file only."""
