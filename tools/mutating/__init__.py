"""Mutation testing of the rooms that read bytes from outside: ``tools/mutate``."""
