"""Benchmarks: scripts that print ratios, each run by `python -m bench.<name>`."""
