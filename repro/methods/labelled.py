"""What a network learns from the labels: weak or strong views of the labelled examples, mixed or not."""

from __future__ import annotations

from torch import Tensor

from repro.augment.views import Mix, apply_mix, draw_mix
from repro.config.methods import View
from repro.losses import cross_entropy, one_hot, smooth, soft_cross_entropy
from repro.methods.state import Batch


def labelled_inputs(batch: Batch, view: View, mixup: float) -> Tensor:
    """The labelled examples as a network learns from them, [*lead, B, *E].

    Args:
        batch: for the views and for its draws.
        view: weak (flip and crop) or strong (RandAugment).
        mixup: a of Beta(a, a), from which the weight of each example against its partner is drawn; 0 mixes nothing.

    Raises:
        ValueError: when the strong view is wanted and the batch has none.
    """
    x = batch.strong_labelled if view is View.strong else batch.labelled
    if x is None:
        raise ValueError("the batch has no strong view of its labelled examples; ask `Batches` for it")
    return apply_mix(x, _mix(batch, mixup)) if mixup else x


def labelled_loss_of(logits: Tensor, batch: Batch, mixup: float, smoothing: float) -> Tensor:
    """Cross-entropy of `labelled_inputs`' logits [*lead, B, K], their mean over B: [*lead].

    With `mixup` the targets are mixed as the inputs were: the same draw of the same step. Smoothing comes after it.
    """
    if not mixup:
        return cross_entropy(logits, batch.labels, smoothing).mean(dim=-1)
    targets = apply_mix(one_hot(batch.labels, logits.shape[-1]).to(logits.dtype), _mix(batch, mixup))
    return soft_cross_entropy(logits, smooth(targets, smoothing)).mean(dim=-1)


def _mix(batch: Batch, a: float) -> Mix:
    return draw_mix(batch.draws, "mixup", a, batch.labels.shape[-1])
