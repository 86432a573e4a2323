"""Long trials of the whole service in real processes: ``tools/soak``."""
