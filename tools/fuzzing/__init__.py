"""Fuzzing of all that reads bytes from outside: ``tools/fuzz``."""
