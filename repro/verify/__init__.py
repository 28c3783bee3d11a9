"""Claims x recorded runs -> verdicts. Needs no training code; start reading at `rules.py`."""
