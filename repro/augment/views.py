"""Weak and strong views of whole batches: first draw the numbers, then apply them; and mixup.

`draw` is random and cheap, `apply` is deterministic: the two are tested apart. Batches are changed as a whole, on the
device they are on, without a loop over images and without the host waiting for the device. Images are uint8
[N, C, H, W]. The sources are the paper's Table 5 and the released code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from torch import Tensor

from repro.augment import CropViews, ImageViews, Views, randaugment
from repro.augment.randaugment import POOLS, Arguments, Layer, Operation
from repro.seeding import Drawn, Draws, Shard, Step, Streams
from repro.settings import ConfigError, validated


@dataclass(frozen=True)
class Part:
    """One process's part of a step's batch; its views are the same as in the whole batch."""

    streams: Streams
    step: Step
    shard: Shard = field(default_factory=Shard)  # which part it is
    whole: Callable[[Tensor], Tensor] = lambda part: part  # puts the parts together

    def count(self, examples: Tensor) -> int:
        """The number of examples in the whole batch, from those of this part, [*lead, n, *E]."""
        return examples.shape[len(self.streams.lead)] * self.shard.of


_ATTEMPTS = 10  # to find a random box that fits, before the centre is taken


@dataclass(frozen=True)
class Crop(Drawn):
    """One flip and one crop for each of N images."""

    flip: Tensor  # bool [N]: left to right
    offset: Tensor  # int64 [N, 2]: first row and column in the padded image, 0 to twice the padding


@dataclass(frozen=True)
class Strong(Drawn):
    """All that is drawn for the strong views of N images."""

    layers: tuple[Layer, ...]
    cutout: Tensor  # float32 [N, 2] in [0, 1): centre of the last Cutout, as a share of height and width
    crop: Crop


def draw_crop(streams: Streams, name: str, step: Step, count: int, views: ImageViews) -> Crop:
    """A flip with probability 1/2, if `views.flip`, and a uniform offset; streams `name` flip and `name` crop."""
    offset = streams.integers(f"{name} crop", step, 2 * views.crop_padding + 1, (count, 2))
    return Crop(draw_flips(streams, name, step, count, views), offset)


def apply_crop(images: Tensor, crop: Crop, views: ImageViews) -> Tensor:
    """The weak view (and the labelled one): flips, then crops from the image padded with fill, uint8 [N, C, H, W]."""
    _require(images, len(crop.flip))
    height, width = images.shape[-2:]
    rows = randaugment.indices(height, torch.int64, images.device) + (crop.offset[:, :1] - views.crop_padding)
    columns = randaugment.indices(width, torch.int64, images.device) + (crop.offset[:, 1:] - views.crop_padding)
    columns = torch.where(crop.flip[:, None], width - 1 - columns, columns)
    return randaugment.read_pixels(images, rows[:, :, None], columns[:, None, :], views.fill)


def draw_layers(streams: Streams, step: Step, count: int, views: Views, name: str = "strong view") -> tuple[Layer, ...]:
    """RandAugment's draws for N images, from streams called `name` and a word more.

    Each layer draws its operation, with replacement, its sign, centre and partner; a partner is any other image of the
    batch. The released code applies a layer if its draw is at most the rate; here its draw must be below the rate, so
    that a rate of 0 applies none and a rate of 1 all. The two differ with probability 2**-24.
    """
    shape = (views.layers, count)
    pool = randaugment.pool(views.operations, streams.device)
    operation = pool[streams.integers(f"{name} operation", step, len(pool), shape)]
    negative = streams.integers(f"{name} sign", step, 2, shape) == 1
    centre = streams.uniform(f"{name} centre", step, (*shape, 2))
    ahead = 1 + streams.integers(f"{name} partner", step, max(1, count - 1), shape)
    partner = (torch.arange(count, device=streams.device) + ahead) % count
    rate = streams.uniform(f"{name} rate", step, (count,))  # one draw for all layers of an image
    rate = views.lowest_rate + (views.highest_rate - views.lowest_rate) * rate
    applied = streams.uniform(f"{name} application", step, shape) < rate
    layers = zip(operation, negative, centre, partner, applied, strict=True)
    return tuple(Layer(*drawn) for drawn in layers)


def draw_strong(streams: Streams, step: Step, count: int, views: ImageViews, name: str = "strong view") -> Strong:
    """RandAugment's draws, the last Cutout's and those of a second crop, from streams called `name` and a word more."""
    return Strong(
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
        images = randaugment.apply(images, weak if others is None else others, layer, args)
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
    """The strong view of weak views, uint8 [N, 3, H, W], with the settings that it was drawn with.

    For `others` see `apply_layers`, for the constants `randaugment.arguments`; their defaults suit 32x32 pixels.
    """
    _require(weak, len(strong.cutout), channels=3)
    images = apply_layers(weak, strong.layers, randaugment.arguments(views, cutout_const, translate_const), others)
    if views.cutout:
        erased = randaugment.square(strong.cutout, views.cutout // 2, *images.shape[-2:])
        images = images.masked_fill(erased[:, None], views.fill)
    return apply_crop(images, strong.crop, views) if views.recrop else images


def cropped(examples: Tensor, views: ImageViews, part: Part, name: str) -> Tensor:
    """Part of a batch, flipped and cropped by the draws of `name`."""
    crop = draw_crop(part.streams, name, part.step, part.count(examples), views)
    return apply_crop(examples, crop.rows(part.shard), views)


def distorted(weak: Tensor, views: ImageViews, part: Part, name: str) -> Tensor:
    """Weak views RandAugmented, cut out, flipped and cropped once more, by the draws of `name`."""
    drawn = draw_strong(part.streams, part.step, part.count(weak), views, name).rows(part.shard)
    return apply_strong(weak, drawn, views, others=partners(weak, views, part))


def partners(weak: Tensor, views: Views, part: Part) -> Tensor:
    """The weak views of the whole batch if SamplePairing may mix in any of them; else those of this part."""
    return part.whole(weak) if Operation.sample_pairing in POOLS[views.operations] else weak


class RandAugment:
    """Weak and strong views of whole batches, uint8 [B, 3, H, W] to the same shape, on the device that they are on.

    A view is a function of (seed, step) and of the images: ask once for each step of training.

    >>> import torch
    >>> images = torch.zeros(64, 3, 32, 32, dtype=torch.uint8)
    >>> augment = RandAugment(magnitude=10.0, cutout=0)
    >>> weak = augment.weak(images, step=0)  # flipped and cropped
    >>> strong = augment(weak, step=0)  # each by operations of its own
    >>> strong.shape
    torch.Size([64, 3, 32, 32])

    Args:
        seed: of all draws.
        cutout_const: half of Cutout's side, in pixels, at magnitude 10; the released code has 4 for 32x32 pixels, 40
            for 224x224.
        translate_const: pixels of TranslateX and TranslateY at magnitude 10; 4 for 32x32, 100 for 224x224.
        settings: of `repro.augment.ImageViews`, such as operations, layers, magnitude.

    Raises:
        ConfigError: for an unknown setting, or a value out of range.
    """

    def __init__(
        self, seed: int = 0, *, cutout_const: float = 4, translate_const: float = 4, **settings: object
    ) -> None:
        self._seed, self._streams = seed, Streams(seed)
        self._cutout_const, self._translate_const = cutout_const, translate_const
        self.views = validated(ImageViews, settings)
        problems = list(self.views.problems())
        if problems:
            raise ConfigError("; ".join(problems).replace("data.views.", ""))

    def weak(self, images: Tensor, step: int) -> Tensor:
        """Flips, then crops from the padded image."""
        return cropped(images, self.views, self._part(images, step), "weak view")

    def __call__(self, images: Tensor, step: int) -> Tensor:
        """RandAugment's layers, the last Cutout, and another flip and crop; `cutout=0, recrop=False` leaves these out.

        Raises:
            ValueError: for images that are not uint8 [B, 3, H, W].
        """
        _require(images, len(images), channels=3)
        drawn = draw_strong(self._part(images, step).streams, step, len(images), self.views)
        cutout, translate = self._cutout_const, self._translate_const
        return apply_strong(images, drawn, self.views, cutout_const=cutout, translate_const=translate)

    def _part(self, images: Tensor, step: int) -> Part:
        if self._streams.device != images.device:
            self._streams = Streams(self._seed, images.device)
        return Part(self._streams, step)


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(pixel - 255 mean) / (255 std) by channel, of uint8 to float32 [N, C, H, W]; both are on 0..1 (released)."""
    _require(images, len(images), channels=len(mean))
    return (images - _per_channel(mean, images.device)) / _per_channel(std, images.device)


@cache
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Values of the scale 0..1 on that of 0..255, float32 [C, 1, 1]; cached, so that they are copied only once."""
    return (torch.tensor(values, dtype=torch.float32)[:, None, None] * 255).to(device)  # for all streams of a GPU


def _require(images: Tensor, count: int, channels: int | None = None) -> None:
    """Refuses images of another type or shape than these."""
    wanted = f"[{count}, {channels or 'C'}, H, W]"
    if not isinstance(images, Tensor):
        raise TypeError(f"images are a {type(images).__name__}; need torch.uint8 {wanted}")
    known = images.dtype == torch.uint8 and images.ndim == 4 and channels in {None, images.shape[1]}
    if not known or len(images) != count or 0 in images.shape[2:]:
        raise ValueError(f"images are {images.dtype} {list(images.shape)}; need torch.uint8 {wanted}")


# Images of any size


def draw_boxes(streams: Streams, name: str, step: int, sides: np.ndarray, views: CropViews) -> np.ndarray:
    """A box for each of N images, float64 [N, 4]: left, upper, right and lower edge in pixels, within the image.

    Its area is a share of the image's, uniform from `views.smallest_area` to 1; its ratio of width to height is
    log-uniform between 1 / `views.widest_ratio` and `views.widest_ratio`. The first of ten draws that fits is taken; if
    none fits, the largest centred box of an allowed ratio (Szegedy et al. 2015, in torchvision's form). `sides`,
    int [N, 2], are width and height; draws come from the stream `name` box.
    """
    draws = streams.uniform(f"{name} box", step, (len(sides), _ATTEMPTS, 4)).cpu().double().numpy()
    width, height = sides[:, None, 0].astype(np.float64), sides[:, None, 1].astype(np.float64)
    area = width * height * (views.smallest_area + (1 - views.smallest_area) * draws[..., 0])
    ratio = np.exp((2 * draws[..., 1] - 1) * math.log(views.widest_ratio))
    widths, heights = np.sqrt(area * ratio), np.sqrt(area / ratio)
    fits = (widths <= width) & (heights <= height)
    first, rows = fits.argmax(axis=1), np.arange(len(sides))
    wide, high = widths[rows, first], heights[rows, first]
    left, upper = (width[:, 0] - wide) * draws[rows, first, 2], (height[:, 0] - high) * draws[rows, first, 3]
    drawn = np.stack([left, upper, left + wide, upper + high], axis=1)
    return np.where(fits.any(axis=1, keepdims=True), drawn, _centred(sides, views.widest_ratio))


def _centred(sides: np.ndarray, widest: float) -> np.ndarray:
    """The largest boxes in the middle whose ratio lies within the limits, float64 [N, 4]."""
    width, height = sides[:, 0].astype(np.float64), sides[:, 1].astype(np.float64)
    wide, high = np.minimum(width, height * widest), np.minimum(height, width * widest)
    left, upper = (width - wide) / 2, (height - high) / 2
    return np.stack([left, upper, left + wide, upper + high], axis=1)


def draw_flips(streams: Streams, name: str, step: Step, count: int, views: Views) -> Tensor:
    """Which images are flipped, bool [N]: each with probability 1/2, or none."""
    return (streams.integers(f"{name} flip", step, 2, (count,)) == 1) & views.flip


# Mixup (Zhang et al. 2018, arXiv 1710.09412): each example of a batch is mixed with another


@dataclass(frozen=True)
class Mix:
    """What is drawn for one batch of N examples."""

    weight: Tensor  # float64 [*lead]: of the example itself; one for the batch, as in the authors' code
    partner: Tensor  # int64 [*lead, N]: a permutation; an example may be its own partner


def draw_mix(draws: Draws, name: str, a: float, count: int) -> Mix:
    """A weight from Beta(a, a) and a permutation of `count` examples, from streams called `name` and a word more."""
    weight = symmetric_beta(draws.uniform(f"{name} radius", (1,)), draws.uniform(f"{name} angle", (1,)), a)
    return Mix(weight.squeeze(-1), draws.permutation(f"{name} partner", count))


def symmetric_beta(first: Tensor, second: Tensor, a: float) -> Tensor:
    """Beta(a, a) variates, float64, from two uniform ones of [0, 1) each, of the same shape.

    1/2 + cos(2 pi v) / (2 sqrt(cos(2 pi v)^2 + 1 / (u^(-1/a) - 1))): exact for every a > 0 (Bailey 1994, Student's t
    with 2 a degrees of freedom; Devroye 1996), up to rounding, by which values within 1e-16 of 0 or 1 become 0 or 1,
    and up to the grid of the uniform numbers, which are the middles of 2**24 equal steps.
    """
    u, v = (uniform.to(torch.float64) + 2.0**-25 for uniform in (first, second))
    cosine = torch.cos(2 * math.pi * v)
    spread = torch.expm1(-torch.log(u) / a)  # u^(-1/a) - 1: near 0 where u is near 1, infinite where a is small
    return 0.5 + cosine / (2 * torch.sqrt(cosine * cosine + 1 / spread))


def apply_mix(values: Tensor, mix: Mix) -> Tensor:
    """Values [*lead, N, ...] times the weight, plus those of the partners times 1 - weight; the same shape."""
    lead = mix.weight.dim()
    behind = values.dim() - lead - 1
    index = mix.partner.reshape(*mix.partner.shape, *[1] * behind).expand(values.shape)
    weight = mix.weight.to(values.dtype).reshape(*mix.weight.shape, *[1] * (behind + 1))
    return weight * values + (1 - weight) * values.gather(lead, index)
