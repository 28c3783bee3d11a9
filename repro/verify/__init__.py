"""Claims x evaluated runs -> verdicts. Needs no training code; start reading at `judge.py`."""
