"""Weak and strong views of whole batches. Knows no data set: each source in `repro.data` makes its views of these."""
