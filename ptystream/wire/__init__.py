"""Bytes to frozen messages and back: no sockets, no torch, no clock."""
