"""Views of images, uint8 [N, C, H, W]: flip and crop (weak); RandAugment, Cutout, flip and crop once more (strong).

Batches are changed as a whole, on the device they are on, without a loop over images and without the host waiting for
the device. The settings are `repro.config.data.ImageViews`; the sources are the paper's Table 5 and the released code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from repro.augment import geometry, operations
from repro.augment.operations import Arguments, Layer
from repro.config.data import CropViews, ImageViews
from repro.seeding import Shard, Step, Streams


@dataclass(frozen=True)
class Crop:
    """One flip and one crop for each of N images."""

    flip: Tensor  # bool [N]: left to right
    offset: Tensor  # int64 [N, 2]: first row and column in the padded image, 0 to twice the padding

    def rows(self, shard: Shard) -> Crop:
        """Those of a part of the images."""
        return Crop(shard.rows(self.flip), shard.rows(self.offset))


@dataclass(frozen=True)
class Strong:
    """All that is drawn for the strong views of N images."""

    rate: Tensor  # float32 [N]: with what probability each layer was applied; one draw for all layers of an image
    layers: tuple[Layer, ...]
    cutout: Tensor  # float32 [N, 2] in [0, 1): centre of the last Cutout, as a share of height and width
    crop: Crop

    def rows(self, shard: Shard) -> Strong:
        """Those of a part of the images; partners are still any of the whole batch."""
        layers = tuple(layer.rows(shard) for layer in self.layers)
        return Strong(shard.rows(self.rate), layers, shard.rows(self.cutout), self.crop.rows(shard))


def draw_crop(streams: Streams, name: str, step: Step, count: int, views: ImageViews) -> Crop:
    """A flip with probability 1/2, if `views.flip`, and a uniform offset; streams `name` flip and `name` crop."""
    flip = streams.integers(f"{name} flip", step, 2, (count,)) == 1
    offset = streams.integers(f"{name} crop", step, 2 * views.crop_padding + 1, (count, 2))
    return Crop(flip & views.flip, offset)


def apply_crop(images: Tensor, crop: Crop, views: ImageViews) -> Tensor:
    """The weak view (and the labelled one): flips, then crops from the image padded with fill, uint8 [N, C, H, W].

    Raises:
        ValueError: for images that are not uint8 [N, C, H, W], or not as many as were drawn for.
    """
    _require(images, len(crop.flip))
    return geometry.crop(images, crop.flip, crop.offset, views.crop_padding, views.fill)


def draw_rate(
    streams: Streams, step: Step, count: int, views: ImageViews | CropViews, name: str = "strong view"
) -> Tensor:
    """With what probability each layer of an image is applied, float32 [N]: one draw for all its layers."""
    rate = streams.uniform(f"{name} rate", step, (count,))
    return views.lowest_rate + (views.highest_rate - views.lowest_rate) * rate


def draw_layers(
    streams: Streams, step: Step, count: int, views: ImageViews | CropViews, name: str = "strong view"
) -> tuple[Layer, ...]:
    """RandAugment's draws for N images, from streams called `name` and a word more.

    Each layer draws its operation, with replacement, its sign, centre and partner; a partner is any other image of the
    batch. The released code applies a layer if its draw is at most the rate; here it must be below, so that a rate of 0
    applies none and a rate of 1 all: the same but for one chance in 2**24.
    """
    shape = (views.layers, count)
    pool = operations.pool(views.operations, streams.device)
    operation = pool[streams.integers(f"{name} operation", step, len(pool), shape)]
    negative = streams.integers(f"{name} sign", step, 2, shape) == 1
    centre = streams.uniform(f"{name} centre", step, (*shape, 2))
    ahead = 1 + streams.integers(f"{name} partner", step, max(1, count - 1), shape)
    partner = (torch.arange(count, device=streams.device) + ahead) % count
    rate = draw_rate(streams, step, count, views, name)
    applied = streams.uniform(f"{name} application", step, shape) < rate
    layers = zip(operation, negative, centre, partner, applied, strict=True)
    return tuple(Layer(*drawn) for drawn in layers)


def draw_strong(streams: Streams, step: Step, count: int, views: ImageViews, name: str = "strong view") -> Strong:
    """RandAugment's draws, the last Cutout's and those of a second crop, from streams called `name` and a word more."""
    return Strong(
        rate=draw_rate(streams, step, count, views, name),
        layers=draw_layers(streams, step, count, views, name),
        cutout=streams.uniform(f"{name} cutout", step, (count, 2)),
        crop=draw_crop(streams, name, step, count, views),
    )


def apply_layers(weak: Tensor, layers: Sequence[Layer], args: Arguments, others: Tensor | None = None) -> Tensor:
    """RandAugment's layers one after another, uint8 [N, 3, H, W].

    `others` are the weak views of the whole batch, where the N are a part of it: what SamplePairing mixes in.
    """
    images = weak
    for layer in layers:
        images = operations.apply(images, weak if others is None else others, layer, args)
    return images


def apply_strong(
    weak: Tensor,
    strong: Strong,
    views: ImageViews,
    *,
    others: Tensor | None = None,
    cutout_const: float = 4,
    translate_const: float = 4,
) -> Tensor:
    """The strong view of weak views, uint8 [N, 3, H, W].

    Args:
        weak: uint8 [N, 3, H, W], from `apply_crop`.
        strong: from `draw_strong`.
        views: the settings it was drawn with.
        others: the weak views of the whole batch, of which these are a part: SamplePairing's partners.
        cutout_const: see `operations.arguments`; the default suits 32x32 pixels.
        translate_const: likewise.

    Raises:
        ValueError: for images that are not uint8 [N, 3, H, W], or not as many as were drawn for.
    """
    _require(weak, len(strong.rate), channels=3)
    images = apply_layers(weak, strong.layers, operations.arguments(views, cutout_const, translate_const), others)
    if views.cutout:
        erased = geometry.square(strong.cutout, views.cutout // 2, *images.shape[-2:])
        images = images.masked_fill(erased[:, None], views.fill)
    return apply_crop(images, strong.crop, views) if views.recrop else images


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """What a network takes: (pixel - 255 mean) / (255 std) by channel, float32 [N, C, H, W] (released).

    Args:
        images: uint8 [N, C, H, W].
        mean: of each of the C channels, on the scale of 0..1.
        std: standard deviation of each channel, on the same scale.

    Raises:
        ValueError: for images that are not uint8 [N, C, H, W] with C = len(mean) = len(std).
    """
    if len(mean) != len(std):
        raise ValueError(f"normalise: {len(mean)} means and {len(std)} standard deviations; need one of each a channel")
    _require(images, len(images), channels=len(mean))
    return (images - _per_channel(mean, images.device)) / _per_channel(std, images.device)


@cache
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Values on the scale of 0..1 on that of 0..255, float32 [C, 1, 1]; kept, so that they are copied only once."""
    return (torch.tensor(values, dtype=torch.float32)[:, None, None] * 255).to(device)  # for all streams of a GPU


def _require(images: Tensor, count: int, channels: int | None = None) -> None:
    """Refuses images of another type or shape than is wanted."""
    known = images.dtype == torch.uint8 and images.ndim == 4 and channels in {None, images.shape[1]}
    if not known or len(images) != count:
        wanted = f"[{count}, {channels or 'C'}, H, W]"
        raise ValueError(f"images are {images.dtype} {list(images.shape)}; need torch.uint8 {wanted}")
