"""The views of a batch, by data set. Each is a function of (seed, step), so paired arms see the same ones."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet

from torch import Tensor

from repro.augment import crops, digits, images, operations, points
from repro.augment.operations import POOLS, Operation
from repro.config.data import Cifar10Data, CropViews, Data, FolderData, ImageViews, SvhnData, TwoMoonsData
from repro.config.methods import View
from repro.data.image_files import ImageFiles
from repro.data.sets import Examples
from repro.seeding import Shard, Step, Streams

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

WHOLE = Shard()
Whole = Callable[[Tensor], Tensor]
"""From one process's part of a batch to the whole batch."""


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


def labelled_view(examples: Tensor, data: Data, streams: Streams, step: Step, shard: Shard = WHOLE) -> Tensor:
    """The labelled batch as trained on: points as they are, digits shifted by a pixel, images flipped and cropped.

    Images from files come cropped; they are flipped. Where the examples are one `shard` of a batch, they look as they
    do in the whole batch.
    """
    count = len(examples) * shard.of
    if isinstance(data, TwoMoonsData):
        return examples
    if isinstance(data, FolderData):
        return to_input(_flipped(examples, data, streams, step, shard, "labelled view"), data)
    if isinstance(data, Cifar10Data | SvhnData):
        return to_input(_crop(examples, data, streams, step, shard, "labelled view"), data)
    return digits.apply(to_input(examples, data), digits.draw_weak(streams, "labelled view", step, count).rows(shard))


def strong_labelled_view(
    examples: Tensor,
    data: Data,
    streams: Streams,
    step: Step,
    shard: Shard = WHOLE,
    whole: Whole = lambda part: part,
) -> Tensor:
    """The labelled batch as unlabelled ones are seen strongly, drawn apart from those; see `unlabelled_views`.

    As for unlabelled examples, images start from `labelled_view`, those from files from its crop alone, and digits from
    where they stood.
    """
    name, count = "strong labelled view", examples.shape[len(streams.lead)] * shard.of
    if isinstance(data, TwoMoonsData):
        drawn = points.draw_strong(streams, step, count, data.jitter, name)
        return points.apply(examples, shard.rows(drawn, len(streams.lead)))
    if isinstance(data, FolderData):
        return to_input(_distorted(examples, data, streams, step, shard, whole, name), data)
    if isinstance(data, Cifar10Data | SvhnData):
        weak = _crop(examples, data, streams, step, shard, "labelled view")
        return to_input(_strong(weak, data, streams, step, shard, whole, name), data)
    return digits.apply(to_input(examples, data), digits.draw_strong(streams, step, count, name).rows(shard))


def _crop(
    examples: Tensor, data: Cifar10Data | SvhnData, streams: Streams, step: Step, shard: Shard, name: str
) -> Tensor:
    """Images flipped and cropped by the draws of `name`."""
    crop = images.draw_crop(streams, name, step, len(examples) * shard.of, data.views)
    return images.apply_crop(examples, crop.rows(shard), data.views)


def _strong(
    weak: Tensor, data: Cifar10Data | SvhnData, streams: Streams, step: Step, shard: Shard, whole: Whole, name: str
) -> Tensor:
    """Weak views RandAugmented, cut out, flipped and cropped once more, by the draws of `name`."""
    drawn = images.draw_strong(streams, step, len(weak) * shard.of, data.views, name).rows(shard)
    return images.apply_strong(weak, drawn, data.views, others=_others(weak, data.views, whole))


def unlabelled_views(
    examples: Tensor,
    data: Data,
    wanted: AbstractSet[View],
    streams: Streams,
    step: Step,
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
    if isinstance(data, FolderData):
        return _cropped(examples, data, wanted, streams, step, shard, whole)
    if isinstance(data, Cifar10Data | SvhnData):
        return _images(examples, data, wanted, streams, step, shard, whole)
    weak = strong = to_input(examples, data)
    count = len(examples) * shard.of
    if View.strong in wanted:
        strong = digits.apply(weak, digits.draw_strong(streams, step, count).rows(shard))
    if View.weak in wanted:
        weak = digits.apply(weak, digits.draw_weak(streams, "weak view", step, count).rows(shard))
    return weak, strong


def _points(
    weak: Tensor, jitter: float, wanted: AbstractSet[View], streams: Streams, step: Step, shard: Shard
) -> tuple[Tensor, Tensor]:
    if View.strong not in wanted:
        return weak, weak
    lead = len(streams.lead)
    drawn = points.draw_strong(streams, step, weak.shape[lead] * shard.of, jitter)
    return weak, points.apply(weak, shard.rows(drawn, lead))


def _images(
    examples: Tensor,
    data: Cifar10Data | SvhnData,
    wanted: AbstractSet[View],
    streams: Streams,
    step: Step,
    shard: Shard,
    whole: Whole,
) -> tuple[Tensor, Tensor]:
    """The strong view starts from the weak one, as in the released code."""
    weak = strong = _crop(examples, data, streams, step, shard, "weak view")
    if View.strong in wanted:
        strong = _strong(weak, data, streams, step, shard, whole, "strong view")
    return to_input(weak, data), to_input(strong, data)


def _cropped(
    examples: Tensor,
    data: FolderData,
    wanted: AbstractSet[View],
    streams: Streams,
    step: Step,
    shard: Shard,
    whole: Whole,
) -> tuple[Tensor, Tensor]:
    """Both views start from one crop and flip independently, as in the released code for ImageNet."""
    weak = strong = _flipped(examples, data, streams, step, shard, "weak view")
    if View.strong in wanted:
        strong = _distorted(examples, data, streams, step, shard, whole, "strong view")
    return to_input(weak, data), to_input(strong, data)


def _flipped(examples: Tensor, data: FolderData, streams: Streams, step: Step, shard: Shard, name: str) -> Tensor:
    flips = crops.draw_flips(streams, name, step, len(examples) * shard.of, data.views)
    return crops.apply_flips(examples, shard.rows(flips))


def _distorted(
    examples: Tensor, data: FolderData, streams: Streams, step: Step, shard: Shard, whole: Whole, name: str
) -> Tensor:
    """Cropped images, flipped, then RandAugmented."""
    views, side = data.views, data.image_size
    flipped = _flipped(examples, data, streams, step, shard, name)
    layers = images.draw_layers(streams, step, len(examples) * shard.of, views, name)
    args = operations.arguments(views, views.cutout_share * side, views.translate_share * side)
    rows = [layer.rows(shard) for layer in layers]
    return images.apply_layers(flipped, rows, args, _others(flipped, views, whole))


def _others(weak: Tensor, views: ImageViews | CropViews, whole: Whole) -> Tensor:
    """The weak views of the whole batch, where an image may be paired with any of them; else this part's."""
    return whole(weak) if Operation.sample_pairing in POOLS[views.operations] else weak
