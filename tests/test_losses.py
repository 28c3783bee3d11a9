"""Losses against PyTorch's own, in float64, one value for each example."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from repro.losses import consistency, cross_entropy, one_hot, smooth

CLOSE = {"rtol": 0.0, "atol": 1e-13}  # float64 rounding over ten classes of numbers below 10


def logits(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers of spread 3."""
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
@pytest.mark.parametrize("smoothing", [0.0, 0.15])
def test_cross_entropy_is_pytorchs(lead: tuple[int, ...], smoothing: float) -> None:
    """Cross-entropy with smoothing equals PyTorch's, one value for each example, for any leading shape."""
    x, labels = logits(*lead, 7, 10), torch.arange(7).expand(*lead, 7)
    expected = functional.cross_entropy(x.flatten(0, -2), labels.flatten(), reduction="none", label_smoothing=smoothing)

    torch.testing.assert_close(cross_entropy(x, labels, smoothing), expected.reshape(*lead, 7), **CLOSE)


def test_smoothing_mixes_with_the_uniform_distribution() -> None:
    """One-hot of 4 classes at smoothing 0.2 is 0.85 and 0.05."""
    found = smooth(one_hot(torch.tensor([1]), 4), 0.2)

    torch.testing.assert_close(found, torch.tensor([[0.05, 0.85, 0.05, 0.05]]))


def test_consistency_masks_on_the_sharpened_probability() -> None:
    """An example is kept by its confidence after sharpening, and loses all its loss otherwise."""
    weak = torch.tensor([[1.0, 0.0], [0.2, 0.0]], dtype=torch.float64)
    strong = logits(2, 2)
    target = (weak / 0.5).softmax(dim=-1)  # confidences 0.88 and 0.60; without sharpening 0.73 and 0.55
    expected = functional.cross_entropy(strong, target, reduction="none")

    torch.testing.assert_close(consistency(weak, strong, 0.5, 0.0), expected, **CLOSE)
    torch.testing.assert_close(consistency(weak, strong, 0.5, 0.8), expected * torch.tensor([1, 0]), **CLOSE)
    torch.testing.assert_close(
        consistency(weak, strong, 0.5, float(target[0, 0])), expected * torch.tensor([1, 0]), **CLOSE
    )
    torch.testing.assert_close(consistency(weak, strong, 0.5, 1.01), expected * 0, **CLOSE)
