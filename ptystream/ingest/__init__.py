"""Where messages come from: live sockets, the receiver process, pairing by index."""
