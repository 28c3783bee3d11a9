"""Everything that makes a step fast or puts it on a device; methods know nothing of it."""
