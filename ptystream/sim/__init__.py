"""A beamline on real sockets, with its own forward model; it keeps the truth to itself."""
