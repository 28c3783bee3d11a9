"""The views of a batch, by data set. Each is a function of (seed, step), so paired arms see the same ones."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from torch import Tensor

from repro.augment import digits, images, points
from repro.config.data import Cifar10Data, Data, TwoMoonsData
from repro.config.methods import View
from repro.seeding import Streams

_GREY_LEVELS = 16  # of scikit-learn's digits
CIFAR10_MEAN, CIFAR10_DEVIATION = (0.491400, 0.482158, 0.4465309), (0.247032, 0.243485, 0.26159)
"""Of the training images' channels on a scale of 0 to 1 (released code)."""


def to_input(examples: Tensor, data: Data) -> Tensor:
    """What a network takes, float32: points as they are, digits' grey levels as 0 to 1, colours normalised."""
    if isinstance(data, TwoMoonsData):
        return examples
    if isinstance(data, Cifar10Data):
        return images.normalise(examples, CIFAR10_MEAN, CIFAR10_DEVIATION)
    return examples.float() / _GREY_LEVELS


def labelled_view(examples: Tensor, data: Data, streams: Streams, step: int) -> Tensor:
    """The labelled batch as trained on: points as they are, digits shifted by a pixel, images flipped and cropped."""
    if isinstance(data, TwoMoonsData):
        return examples
    if isinstance(data, Cifar10Data):
        return to_input(_cropped_labelled(examples, data, streams, step), data)
    return digits.apply(to_input(examples, data), digits.draw_weak(streams, "labelled view", step, len(examples)))


def strong_labelled_view(examples: Tensor, data: Data, streams: Streams, step: int) -> Tensor:
    """The labelled batch as unlabelled ones are seen strongly, drawn apart from those; starts from `labelled_view`.

    As for unlabelled examples, digits are distorted from where they stood.
    """
    name, count = "strong labelled view", examples.shape[len(streams.lead)]
    if isinstance(data, TwoMoonsData):
        return points.apply(examples, points.draw_strong(streams, step, count, data.jitter, name))
    if isinstance(data, Cifar10Data):
        weak = _cropped_labelled(examples, data, streams, step)
        drawn = images.draw_strong(streams, step, count, data.views, name)
        return to_input(images.apply_strong(weak, drawn, data.views), data)
    return digits.apply(to_input(examples, data), digits.draw_strong(streams, step, count, name))


def _cropped_labelled(examples: Tensor, data: Cifar10Data, streams: Streams, step: int) -> Tensor:
    crop = images.draw_crop(streams, "labelled view", step, len(examples), data.views)
    return images.apply_crop(examples, crop, data.views)


def unlabelled_views(
    examples: Tensor, data: Data, wanted: AbstractSet[View], streams: Streams, step: int
) -> tuple[Tensor, Tensor]:
    """Weak and strong view of the unlabelled batch, each of the examples' shape, float32.

    A view that is not `wanted` is not computed; the example itself stands in its place.
    """
    if not wanted:
        return examples, examples
    if isinstance(data, TwoMoonsData):
        return _points(examples, data.jitter, wanted, streams, step)
    if isinstance(data, Cifar10Data):
        return _images(examples, data, wanted, streams, step)
    weak = strong = to_input(examples, data)
    if View.strong in wanted:
        strong = digits.apply(weak, digits.draw_strong(streams, step, len(examples)))
    if View.weak in wanted:
        weak = digits.apply(weak, digits.draw_weak(streams, "weak view", step, len(examples)))
    return weak, strong


def _points(
    weak: Tensor, jitter: float, wanted: AbstractSet[View], streams: Streams, step: int
) -> tuple[Tensor, Tensor]:
    if View.strong not in wanted:
        return weak, weak
    return weak, points.apply(weak, points.draw_strong(streams, step, weak.shape[len(streams.lead)], jitter))


def _images(
    examples: Tensor, data: Cifar10Data, wanted: AbstractSet[View], streams: Streams, step: int
) -> tuple[Tensor, Tensor]:
    """The strong view starts from the weak one, as in the released code."""
    crop = images.draw_crop(streams, "weak view", step, len(examples), data.views)
    weak = strong = images.apply_crop(examples, crop, data.views)
    if View.strong in wanted:
        strong = images.apply_strong(weak, images.draw_strong(streams, step, len(examples), data.views), data.views)
    return to_input(weak, data), to_input(strong, data)
