"""Tests mirror `router/` file by file; `tests/bench` holds the benchmark."""
