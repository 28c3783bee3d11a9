"""RandAugment's operations (Cubuk et al. 2019, in the released code's form), a different one for each image of a batch.

Since an image gets one operation a layer, a layer is three passes over the batch, and each image keeps what its own
operation made of it: pixels moved or erased, values looked up in a table, and a blend with a degenerate image.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cache

import torch
from torch import Tensor

from repro.augment import colour, geometry
from repro.config.data import Arithmetic, CropViews, ImageViews, Operations
from repro.seeding import Shard


class Operation(IntEnum):
    """All operations of all pools; the first 15 in the released code's order."""

    auto_contrast = 0
    equalize = 1
    invert = 2
    rotate = 3
    posterize = 4
    solarize = 5
    color = 6
    contrast = 7
    brightness = 8
    sharpness = 9
    shear_x = 10
    shear_y = 11
    translate_x = 12
    translate_y = 13
    cutout = 14
    sample_pairing = 15
    identity = 16  # in no pool: what a layer does that is not applied


_RELEASED = tuple(Operation)[:15]
_PAPER = (*_RELEASED[:14], Operation.sample_pairing)
POOLS = {
    Operations.released: _RELEASED,
    Operations.paper: _PAPER,
    Operations.paper_svhn: tuple(
        operation
        for operation in _PAPER
        if operation not in {Operation.sample_pairing, Operation.rotate, Operation.translate_x}
    ),
}
"""Which operations RandAugment draws from: released code, and the paper's Table 5."""


@dataclass(frozen=True)
class Layer:
    """One operation for each of N images."""

    operation: Tensor  # int64 [N]: an `Operation`
    negative: Tensor  # bool [N]: whether Rotate, Shear and Translate go the other way
    centre: Tensor  # float32 [N, 2] in [0, 1): Cutout's centre, its row and column as a share of height and width
    partner: Tensor  # int64 [N]: which image of the batch SamplePairing mixes in
    applied: Tensor  # bool [N]: whether the image is changed at all

    def rows(self, shard: Shard) -> Layer:
        """Those of a part of the images; partners are still any of the whole batch."""
        return Layer(*(shard.rows(drawn) for drawn in vars(self).values()))


@dataclass(frozen=True)
class Arguments:
    """What a magnitude means for each operation, and how the operations calculate."""

    degrees: float  # of Rotate
    slope: float  # of ShearX and ShearY, pixels per pixel
    pixels: float  # of TranslateX and TranslateY
    bits: int  # that Posterize keeps: more of them at a higher magnitude (released)
    threshold: int  # from which Solarize inverts
    factor: float  # of Color, Contrast, Brightness and Sharpness; 1 changes nothing
    half: int  # of Cutout's side, in pixels
    pairing: float | None  # SamplePairing's weight of the other image; None where the pool lacks the operation
    fill: int  # value of pixels that come from outside the image
    arithmetic: Arithmetic


def arguments(views: ImageViews | CropViews, cutout_const: float = 4, translate_const: float = 4) -> Arguments:
    """The released code's arguments at `views.magnitude`, whose usual scale ends at 10 but which is 16 there.

    SamplePairing is not in the released code, and the paper gives no argument for it. Its weight is AutoAugment's
    (Cubuk et al. 2018), 0 to 0.4 along the scale, and stops at the 1/2 of Inoue (2018), who proposed the operation:
    beyond that the other image would outweigh the one whose pseudo label is learned.

    Args:
        views: magnitude, pool, fill and arithmetic.
        cutout_const: half of Cutout's side at magnitude 10; the released code has 4 for 32x32, 40 for 224x224 pixels.
        translate_const: pixels of TranslateX and TranslateY at magnitude 10; 4 for 32x32, 100 for 224x224.
    """
    share = views.magnitude / 10
    return Arguments(
        degrees=share * 30,
        slope=share * 0.3,
        pixels=share * translate_const,
        bits=int(share * 4),
        threshold=int(share * 256),
        factor=share * 1.8 + 0.1,
        half=int(share * cutout_const),
        pairing=min(share * 0.4, 0.5) if Operation.sample_pairing in POOLS[views.operations] else None,
        fill=views.fill,
        arithmetic=views.arithmetic,
    )


# The constant tables are kept: to copy them to a device anew in each step would make the host wait for it.
@cache
def pool(operations: Operations, device: torch.device) -> Tensor:
    """The pool's operations, int64 [their number]."""
    return torch.tensor(POOLS[operations], dtype=torch.int64, device=device)


@cache
def _maps(args: Arguments, height: int, width: int, device: torch.device) -> Tensor:
    """The map of each operation with positive and with negative sign, float32 [operations, 2, 6]."""
    maps = [[geometry.UNMOVED, geometry.UNMOVED] for _ in Operation]
    for index, sign in enumerate((1, -1)):
        maps[Operation.rotate][index] = geometry.rotation(sign * args.degrees, height, width)
        maps[Operation.shear_x][index] = geometry.shear_x(sign * args.slope)
        maps[Operation.shear_y][index] = geometry.shear_y(sign * args.slope)
        maps[Operation.translate_x][index] = geometry.translation(sign * args.pixels, 0)
        maps[Operation.translate_y][index] = geometry.translation(0, sign * args.pixels)
    return torch.tensor(maps, dtype=torch.float32, device=device)


@cache
def _tables(args: Arguments, device: torch.device) -> Tensor:
    """The table of each operation whose table is the same for all images, uint8 [operations, 256]."""
    tables = [list(range(256)) for _ in Operation]
    tables[Operation.invert] = list(range(255, -1, -1))
    tables[Operation.posterize] = colour.posterize_table(args.bits)
    tables[Operation.solarize] = colour.solarize_table(args.threshold, args.arithmetic)
    return torch.tensor(tables, dtype=torch.uint8, device=device)


@cache
def _factors(args: Arguments, device: torch.device) -> Tensor:
    """How far each operation goes from the degenerate image (0) to the image (1) or beyond, float32 [operations]."""
    factors = [1.0 for _ in Operation]
    for operation in (Operation.color, Operation.contrast, Operation.brightness, Operation.sharpness):
        factors[operation] = args.factor
    factors[Operation.sample_pairing] = 1 - (args.pairing or 0)
    return torch.tensor(factors, dtype=torch.float32, device=device)


def apply(images: Tensor, weak: Tensor, layer: Layer, args: Arguments) -> Tensor:
    """One layer of RandAugment, uint8 [N, 3, H, W].

    Args:
        images: uint8 [N, 3, H, W], as the layer before left them.
        weak: uint8 [M, 3, H, W], the whole batch before the first layer: SamplePairing's partners come from here, so
            that an image's result does not hang on what was drawn for its partner.
        layer: what was drawn.
        args: from `arguments`.
    """
    operation = torch.where(layer.applied, layer.operation, Operation.identity)
    images = _look_up(_move(images, layer, operation, args), operation, args)
    return _blend(images, weak, layer, operation, args)


def _move(images: Tensor, layer: Layer, operation: Tensor, args: Arguments) -> Tensor:
    """Rotate, ShearX, ShearY, TranslateX, TranslateY and Cutout."""
    height, width = images.shape[-2:]
    maps = _maps(args, height, width, images.device)[operation, layer.negative.long()]
    rows, columns = geometry.source(maps, height, width)
    cut = (operation == Operation.cutout)[:, None, None]
    erased = geometry.square(layer.centre, args.half, height, width) & cut
    return geometry.read(images, rows, columns, args.fill, erased)


def _look_up(images: Tensor, operation: Tensor, args: Arguments) -> Tensor:
    """AutoContrast, Equalize, Invert, Posterize and Solarize."""
    levels, chosen = images.flatten(2).long(), operation[:, None, None]
    table = _tables(args, images.device)[operation][:, None]
    table = torch.where(chosen == Operation.auto_contrast, colour.auto_contrast_table(images), table)
    table = torch.where(chosen == Operation.equalize, colour.equalize_table(levels), table)
    return table.gather(2, levels).reshape(images.shape)


def _blend(images: Tensor, weak: Tensor, layer: Layer, operation: Tensor, args: Arguments) -> Tensor:
    """Color, Contrast, Brightness, Sharpness and SamplePairing; the factor 1 leaves the other images as they are."""
    pixels, chosen = images.to(torch.float32), operation[:, None, None, None]
    factor = _factors(args, images.device)[chosen]
    degenerate = torch.where(chosen == Operation.color, colour.grey(pixels), 0)
    degenerate = torch.where(chosen == Operation.contrast, colour.contrast_pivot(images, args.arithmetic), degenerate)
    degenerate = torch.where(chosen == Operation.sharpness, colour.smooth(pixels), degenerate)
    if args.pairing is not None:
        pairs = chosen == Operation.sample_pairing
        degenerate = torch.where(pairs, weak[layer.partner].to(torch.float32), degenerate)
    return colour.blend(degenerate, pixels, factor, args.arithmetic)
