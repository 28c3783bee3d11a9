"""The views of a batch, by data set. Each is a function of (seed, step), so paired arms see the same ones."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from torch import Tensor

from repro.augment import crops, digits, images, operations, points
from repro.config.data import Cifar10Data, Data, FolderData, SvhnData, TwoMoonsData
from repro.config.methods import View
from repro.data.image_files import ImageFiles
from repro.data.sets import Examples
from repro.seeding import Streams

_GREY_LEVELS = 16  # of scikit-learn's digits
CIFAR10_MEAN, CIFAR10_DEVIATION = (0.491400, 0.482158, 0.4465309), (0.247032, 0.243485, 0.26159)
"""Of the training images' channels on a scale of 0 to 1 (released code)."""
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Likewise, of ImageNet; for any other folder of images too (released code)."""
SVHN_MEAN, SVHN_DEVIATION = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)
"""Likewise, of SVHN's `train`; the customary numbers, since neither source has any."""
_CHANNELS = {
    "cifar10": (CIFAR10_MEAN, CIFAR10_DEVIATION),
    "svhn": (SVHN_MEAN, SVHN_DEVIATION),
    "folder": (IMAGENET_MEAN, IMAGENET_DEVIATION),
}


def to_input(examples: Tensor, data: Data) -> Tensor:
    """What a network takes, float32: points as they are, digits' grey levels as 0 to 1, colours normalised."""
    if isinstance(data, TwoMoonsData):
        return examples
    if data.name in _CHANNELS:
        return images.normalise(examples, *_CHANNELS[data.name])
    return examples.float() / _GREY_LEVELS


def as_evaluated(examples: Examples, data: Data, readers: int = 1) -> Tensor:
    """What a network takes when it is evaluated: all of an example; of an image in a file, its centre square."""
    if isinstance(examples, ImageFiles):
        assert isinstance(data, FolderData)  # noqa: S101 - only a folder has files
        examples = examples.centre(data.views.evaluated_share, readers)
    return to_input(examples, data)


def labelled_view(examples: Tensor, data: Data, streams: Streams, step: int) -> Tensor:
    """The labelled batch as trained on: points as they are, digits shifted by a pixel, images flipped and cropped.

    Images from files come cropped; they are flipped.
    """
    if isinstance(data, TwoMoonsData):
        return examples
    if isinstance(data, FolderData):
        flips = crops.draw_flips(streams, "labelled view", step, len(examples), data.views)
        return to_input(crops.apply_flips(examples, flips), data)
    if isinstance(data, Cifar10Data | SvhnData):
        crop = images.draw_crop(streams, "labelled view", step, len(examples), data.views)
        return to_input(images.apply_crop(examples, crop, data.views), data)
    return digits.apply(to_input(examples, data), digits.draw_weak(streams, "labelled view", step, len(examples)))


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
    if isinstance(data, FolderData):
        return _cropped(examples, data, wanted, streams, step)
    if isinstance(data, Cifar10Data | SvhnData):
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
    examples: Tensor, data: Cifar10Data | SvhnData, wanted: AbstractSet[View], streams: Streams, step: int
) -> tuple[Tensor, Tensor]:
    """The strong view starts from the weak one, as in the released code."""
    crop = images.draw_crop(streams, "weak view", step, len(examples), data.views)
    weak = strong = images.apply_crop(examples, crop, data.views)
    if View.strong in wanted:
        strong = images.apply_strong(weak, images.draw_strong(streams, step, len(examples), data.views), data.views)
    return to_input(weak, data), to_input(strong, data)


def _cropped(
    examples: Tensor, data: FolderData, wanted: AbstractSet[View], streams: Streams, step: int
) -> tuple[Tensor, Tensor]:
    """Both views start from one crop and flip independently, as in the released code for ImageNet."""
    views, count, side = data.views, len(examples), data.image_size
    weak = crops.apply_flips(examples, crops.draw_flips(streams, "weak view", step, count, views))
    strong = weak
    if View.strong in wanted:
        flipped = crops.apply_flips(examples, crops.draw_flips(streams, "strong view", step, count, views))
        args = operations.arguments(views, views.cutout_share * side, views.translate_share * side)
        strong = images.apply_layers(flipped, images.draw_layers(streams, step, count, views), args)
    return to_input(weak, data), to_input(strong, data)
