"""Scripts that run inside the peers' environments: no ptystream but in its own."""
