"""Weak and strong views of whole batches: first draw the numbers, then apply them.

`draw` is random and cheap, `apply` is deterministic: the two are tested apart.
"""
