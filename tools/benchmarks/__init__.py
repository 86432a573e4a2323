"""What ``tools/bench`` measures, a module a suite's part."""
