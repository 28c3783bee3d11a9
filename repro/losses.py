"""Losses: pure, one value for each example; the caller reduces. N examples, K classes, any leading shape."""

from __future__ import annotations

import torch
from torch import Tensor


def log_probabilities(logits: Tensor) -> Tensor:
    """Log-softmax over the last dimension, [..., N, K].

    Computed with the classes moved away from the last, contiguous place: for few classes PyTorch's CPU kernel is
    several times faster so, and gives the same values.
    """
    return torch.log_softmax(logits.transpose(-1, -2).contiguous(), dim=-2).transpose(-1, -2)


def probabilities(logits: Tensor) -> Tensor:
    """Softmax over the last dimension, [..., N, K], computed as `log_probabilities` is."""
    return torch.softmax(logits.transpose(-1, -2).contiguous(), dim=-2).transpose(-1, -2)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """int64 [..., N] to float32 [..., N, K]."""
    return (labels[..., None] == torch.arange(classes, device=labels.device)).to(torch.float32)


def smooth(targets: Tensor, smoothing: float) -> Tensor:
    """Mixes targets [..., N, K] with the uniform distribution: (1 - smoothing) * targets + smoothing / K."""
    return targets * (1 - smoothing) + smoothing / targets.shape[-1] if smoothing else targets


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-sum_k targets_k log softmax(logits)_k for target probabilities [..., N, K]; returns [..., N]."""
    return -(targets * log_probabilities(logits)).sum(dim=-1)


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy to integer labels [..., N], with label smoothing; returns [..., N]."""
    log_p = log_probabilities(logits)
    # Chosen by a mask: on a GPU what was gathered goes back through a sort, which no recorded step may hold.
    own = labels[..., None] == torch.arange(logits.shape[-1], device=labels.device)
    loss = -torch.where(own, log_p, 0).sum(dim=-1)
    return (1 - smoothing) * loss - smoothing * log_p.mean(dim=-1) if smoothing else loss


def consistency(logits_weak: Tensor, logits_strong: Tensor, temperature: float, threshold: float) -> Tensor:
    """UDA's unlabelled loss (Xie et al. 2020, Eq. 1 and section 2.2), [..., N].

    The target is softmax(weak / temperature), held constant; examples whose *sharpened* confidence is below
    `threshold` count zero, and the caller's mean still divides by all of them, as in the released code.
    """
    target = probabilities(logits_weak.detach() / temperature)
    loss = soft_cross_entropy(logits_strong, target)
    return loss * (target.amax(dim=-1) >= threshold) if threshold > 0 else loss
