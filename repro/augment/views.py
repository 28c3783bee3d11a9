"""The views of a batch, by data set. Each is a function of (seed, step), so paired arms see the same ones."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet

from torch import Tensor

from repro.augment import digits, images, points
from repro.augment.operations import POOLS, Operation
from repro.config.data import Cifar10Data, Data, TwoMoonsData
from repro.config.methods import View
from repro.seeding import Shard, Streams

_GREY_LEVELS = 16  # of scikit-learn's digits
CIFAR10_MEAN, CIFAR10_DEVIATION = (0.491400, 0.482158, 0.4465309), (0.247032, 0.243485, 0.26159)
"""Of the training images' channels on a scale of 0 to 1 (released code)."""

WHOLE = Shard()
Whole = Callable[[Tensor], Tensor]
"""From one process's part of a batch to the whole batch."""


def to_input(examples: Tensor, data: Data) -> Tensor:
    """What a network takes, float32: points as they are, digits' grey levels as 0 to 1, colours normalised."""
    if isinstance(data, TwoMoonsData):
        return examples
    if isinstance(data, Cifar10Data):
        return images.normalise(examples, CIFAR10_MEAN, CIFAR10_DEVIATION)
    return examples.float() / _GREY_LEVELS


def labelled_view(examples: Tensor, data: Data, streams: Streams, step: int, shard: Shard = WHOLE) -> Tensor:
    """The labelled batch as trained on: points as they are, digits shifted by a pixel, images flipped and cropped.

    Where the examples are one `shard` of a batch, they look as they do in the whole batch.
    """
    count = len(examples) * shard.of
    if isinstance(data, TwoMoonsData):
        return examples
    if isinstance(data, Cifar10Data):
        crop = images.draw_crop(streams, "labelled view", step, count, data.views).rows(shard)
        return to_input(images.apply_crop(examples, crop, data.views), data)
    return digits.apply(to_input(examples, data), digits.draw_weak(streams, "labelled view", step, count).rows(shard))


def unlabelled_views(
    examples: Tensor,
    data: Data,
    wanted: AbstractSet[View],
    streams: Streams,
    step: int,
    shard: Shard = WHOLE,
    whole: Whole = lambda part: part,
) -> tuple[Tensor, Tensor]:
    """Weak and strong view of the unlabelled batch, each of the examples' shape, float32.

    A view that is not `wanted` is not computed; the example itself stands in its place.

    Args:
        examples: [*lead, U, *E]: the batch, or one part of it.
        data: the settings.
        wanted: views.
        streams: where draws come from.
        step: of the training.
        shard: which part of the batch the examples are.
        whole: puts the parts together, where an image is paired with another one of the batch.
    """
    if not wanted:
        return examples, examples
    if isinstance(data, TwoMoonsData):
        return _points(examples, data.jitter, wanted, streams, step, shard)
    if isinstance(data, Cifar10Data):
        return _images(examples, data, wanted, streams, step, shard, whole)
    weak = strong = to_input(examples, data)
    count = len(examples) * shard.of
    if View.strong in wanted:
        strong = digits.apply(weak, digits.draw_strong(streams, step, count).rows(shard))
    if View.weak in wanted:
        weak = digits.apply(weak, digits.draw_weak(streams, "weak view", step, count).rows(shard))
    return weak, strong


def _points(
    weak: Tensor, jitter: float, wanted: AbstractSet[View], streams: Streams, step: int, shard: Shard
) -> tuple[Tensor, Tensor]:
    if View.strong not in wanted:
        return weak, weak
    lead = len(streams.lead)
    drawn = points.draw_strong(streams, step, weak.shape[lead] * shard.of, jitter)
    return weak, points.apply(weak, shard.rows(drawn, lead))


def _images(
    examples: Tensor,
    data: Cifar10Data,
    wanted: AbstractSet[View],
    streams: Streams,
    step: int,
    shard: Shard,
    whole: Whole,
) -> tuple[Tensor, Tensor]:
    """The strong view starts from the weak one, as in the released code."""
    count = len(examples) * shard.of
    crop = images.draw_crop(streams, "weak view", step, count, data.views).rows(shard)
    weak = strong = images.apply_crop(examples, crop, data.views)
    if View.strong in wanted:
        others = whole(weak) if Operation.sample_pairing in POOLS[data.views.operations] else weak
        drawn = images.draw_strong(streams, step, count, data.views).rows(shard)
        strong = images.apply_strong(weak, drawn, data.views, others=others)
    return to_input(weak, data), to_input(strong, data)
