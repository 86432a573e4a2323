"""Bytes to frozen messages and back, and who may have them: no torch, no clock."""
