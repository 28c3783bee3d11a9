"""The views of a batch, by data set. Each is a function of (seed, step), so paired arms see the same ones."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import torch
from torch import Tensor

from repro.augment import digits, points
from repro.config.data import Data, TwoMoonsData
from repro.config.methods import View
from repro.seeding import Streams


def to_input(examples: Tensor) -> Tensor:
    """What a network takes: points as they are, digits' grey levels 0..16 as 0..1, float32."""
    return examples.to(torch.float32) / 16 if examples.dtype == torch.uint8 else examples


def labelled_view(examples: Tensor, streams: Streams, step: int) -> Tensor:
    """The labelled batch as trained on: points unchanged, digits shifted by up to a pixel."""
    if examples.dtype != torch.uint8:
        return examples
    return digits.apply(to_input(examples), digits.draw_weak(streams, "labelled view", step, len(examples)))


def unlabelled_views(
    examples: Tensor, data: Data, wanted: AbstractSet[View], streams: Streams, step: int
) -> tuple[Tensor, Tensor]:
    """Weak and strong view of the unlabelled batch, each of the examples' shape, float32.

    A view that is not `wanted` is not computed; the example itself stands in its place.
    """
    count = examples.shape[len(streams.lead)]
    weak = strong = to_input(examples)
    if isinstance(data, TwoMoonsData):
        if View.strong in wanted:
            strong = points.apply(weak, points.draw_strong(streams, step, count, data.jitter))
        return weak, strong
    if View.strong in wanted:
        strong = digits.apply(weak, digits.draw_strong(streams, step, count))
    if View.weak in wanted:
        weak = digits.apply(weak, digits.draw_weak(streams, "weak view", step, count))
    return weak, strong
