"""Benchmarks: `python -m tests.bench.<name>`; each prints a table and, as its last line, one JSON object."""
