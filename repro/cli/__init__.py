"""Thin entry points, one for each DVC stage: `python -m repro.cli.<stage>`."""
