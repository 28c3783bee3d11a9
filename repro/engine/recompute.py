"""Less memory for more time: activations computed again in the backward pass, by blocks and by chunks of a batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from repro.models.layers import BatchNorm


class _Again:
    """While something is computed again: batch norm as it was, with the statistics that have moved left alone.

    A graph that is gone through twice enters it twice. The flags now are those of the first time.
    """

    def __init__(self, norms: list[BatchNorm]) -> None:
        self._norms, self._tracking = norms, [norm.tracking for norm in norms]
        self._before: list[list[tuple[bool, bool]]] = []

    def __enter__(self) -> None:
        self._before.append([(norm.tracking, norm.again) for norm in self._norms])
        for norm, tracking in zip(self._norms, self._tracking, strict=True):
            norm.tracking, norm.again = tracking, True

    def __exit__(self, *_: object) -> None:
        for norm, (tracking, again) in zip(self._norms, self._before.pop(), strict=True):
            norm.tracking, norm.again = tracking, again


def recomputed(forward: Callable[..., Any], norms: list[BatchNorm], *inputs: Tensor | None) -> Any:
    """`forward(*inputs)`, of which the backward pass finds the inputs only and computes the rest once more.

    The same kernels run on the same numbers, under the same automatic mixed precision, so gradients keep their bits.

    Args:
        forward: of a part of a network; it draws nothing.
        norms: its batch norms.
        inputs: what it takes.
    """
    if not torch.is_grad_enabled():
        return forward(*inputs)
    return checkpoint(
        forward, *inputs, use_reentrant=False, preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), _Again(norms)),
    )  # fmt: skip


def recompute_blocks(model: nn.Module) -> None:
    """Lets each residual block of `model.blocks` be computed again; names and weights stay as they are."""
    blocks: Any = model.blocks
    for block in blocks:
        block.forward = partial(recomputed, block.forward, batch_norms(block))


def in_chunks(
    forward: Callable[..., Tensor], model: nn.Module, count: int, x: Tensor, noise: Tensor | None = None
) -> Tensor:
    """Logits [N, K] of x [N, *E], computed in `count` chunks x[j::count], each again in the backward pass.

    Examples that stand together in x are spread over all chunks. In training each chunk is normalised by itself (ghost
    batch norm: Hoffer et al. 2017, arXiv 1705.08741), and the running statistics move once, towards the mean of the
    chunks' statistics.

    Raises:
        ValueError: in training, when a chunk would have fewer than 2 examples.
    """
    if not model.training:
        if not torch.is_grad_enabled():
            return forward(x, noise)
        count = min(count, len(x))
    elif len(x) < 2 * count:
        raise ValueError(
            f"engine.micro_batches = {count}: {len(x)} examples leave fewer than 2 for a chunk; "
            f"lower it to at most {max(1, len(x) // 2)}, or take larger batches"
        )
    norms, chunks = batch_norms(model), []
    try:
        for j in range(count):
            for norm in norms:
                norm.chunk = (j, count)
            part = None if noise is None else noise[j::count]
            chunks.append(recomputed(forward, norms, x[j::count], part))
    finally:
        for norm in norms:
            norm.chunk = (0, 1)
    whole = len(x) // count  # of each chunk; the first chunks may have one more
    rows = torch.stack([chunk[:whole] for chunk in chunks], dim=1).flatten(0, 1)
    return torch.cat([rows, *(chunk[whole:] for chunk in chunks)])


def batch_norms(module: nn.Module) -> list[BatchNorm]:
    """All within a module."""
    return [layer for layer in module.modules() if isinstance(layer, BatchNorm)]
