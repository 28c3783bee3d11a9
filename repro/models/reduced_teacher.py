"""The small teacher of Reduced Meta Pseudo Labels: a perceptron that corrects the predictions of a large one."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ReducedTeacher(nn.Module):
    """Distributions to distributions, the same at the start (paper, Appendix E, which gives no exact form).

    logits = log p + tanh(p W + a) V + b, with V = 0 and b = 0 before the first step. W is drawn by `start`.

    Args:
        classes: K.
        hidden: units of the one hidden layer.
        lead: leading shape of every parameter.
    """

    def __init__(self, classes: int, hidden: int, lead: tuple[int, ...]) -> None:
        super().__init__()
        self.inward = nn.Parameter(torch.zeros(*lead, classes, hidden))
        self.inward_bias = nn.Parameter(torch.zeros(*lead, hidden))
        self.outward = nn.Parameter(torch.zeros(*lead, hidden, classes))
        self.outward_bias = nn.Parameter(torch.zeros(*lead, classes))

    @torch.no_grad()
    def start(self, uniform: Tensor) -> None:
        """W within +-1 from uniform numbers [*lead, K, hidden]; the rest is 0 until it has learned."""
        self.inward.copy_(2 * uniform - 1)

    def forward(self, log_probabilities: Tensor) -> Tensor:
        """[*lead, N, K] to logits of the same shape."""
        hidden = torch.tanh(log_probabilities.exp() @ self.inward + self.inward_bias[..., None, :])
        return log_probabilities + hidden @ self.outward + self.outward_bias[..., None, :]
