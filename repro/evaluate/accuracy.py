"""Shares of test examples whose label is the likeliest class, or among the five likeliest."""

from __future__ import annotations

import numpy as np

TOP = 5


def has_top5(classes: int) -> bool:
    """Whether the five likeliest of so many classes are recorded: among ten, half of all guesses would be right."""
    return classes > 10


def accuracies(classes: np.ndarray, labels: np.ndarray) -> list[float]:
    """Share of correct predictions for each row of uint8 or uint16 [R, N] against int64 [R, N]."""
    return [float(share) for share in (classes == labels).mean(axis=1)]


def top5_accuracies(likeliest: np.ndarray, labels: np.ndarray) -> list[float]:
    """For each row, the share of labels int64 [R, N] among the classes [R, N, 5] of their example."""
    return [float(share) for share in in_top5(likeliest, labels).mean(axis=1)]


def in_top5(likeliest: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which labels [..., N] are among the classes [..., N, 5] of their example: bool [..., N]."""
    found: np.ndarray = (likeliest == labels[..., None]).any(axis=-1)
    return found
