"""How fast a step is, on this machine, side by side with other ways to compute it."""
