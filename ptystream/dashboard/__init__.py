"""The web page: a process of its own on the status and preview sockets; no torch."""
