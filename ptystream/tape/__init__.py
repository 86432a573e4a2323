"""The recording: an append-only, checksummed log of raw wire parts, and its replay."""
