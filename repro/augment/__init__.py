"""Weak and strong views of whole batches; each source in `repro.data` makes its own views from these."""
