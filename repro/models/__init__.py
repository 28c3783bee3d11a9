"""Networks: examples [*lead, N, ...] to logits [*lead, N, K]."""
