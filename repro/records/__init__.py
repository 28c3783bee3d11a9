"""The shape of results/: the only code that knows it."""
