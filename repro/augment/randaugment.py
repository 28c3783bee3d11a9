"""RandAugment (Cubuk et al. 2019, in the released code's form), a different operation for each image of a batch.

An image gets one operation in each layer. A layer is three passes over the batch: it moves or erases pixels, looks
values up in a table, and blends with a degenerate image. Each image keeps the result of its own operation.

Everything is computed as the released code does it, in float32 and in its order of operations, so that every device
gives the same bytes. Where `Arithmetic` matters, the function says how. Images are uint8 [N, C, H, W].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from repro.augment import Arithmetic, Operations, Views
from repro.seeding import Drawn

Map = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): the pixel in column x and row y of the output is read from column a x + b y + c and row
d x + e y + f of the input (released: `tf.contrib.image.transform`)."""

UNMOVED: Map = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_GREY = (0.2989, 0.5870, 0.1140)  # of red, green and blue (TensorFlow's rgb_to_grayscale)
_PILLOW_GREY = (19595, 38470, 7471)  # the same in 65,536ths, as Pillow rounds them


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
    identity = 16  # in no pool: the operation of a layer that is not applied


_RELEASED = tuple(Operation)[:15]
_PAPER = (*_RELEASED[:14], Operation.sample_pairing)
_NOT_SVHN = {Operation.sample_pairing, Operation.rotate, Operation.translate_x}
POOLS = {
    Operations.released: _RELEASED,
    Operations.paper: _PAPER,
    Operations.paper_svhn: tuple(operation for operation in _PAPER if operation not in _NOT_SVHN),
}
"""Which operations RandAugment draws from: released code, and the paper's Table 5."""


@dataclass(frozen=True)
class Layer(Drawn):
    """One operation for each of N images."""

    operation: Tensor  # int64 [N]: an `Operation`
    negative: Tensor  # bool [N]: whether Rotate, Shear and Translate go the other way
    centre: Tensor  # float32 [N, 2] in [0, 1): Cutout's centre, its row and column as a share of height and width
    partner: Tensor  # int64 [N]: which image of the whole batch SamplePairing mixes in
    applied: Tensor  # bool [N]: whether the image is changed at all


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


def arguments(views: Views, cutout_const: float = 4, translate_const: float = 4) -> Arguments:
    """The released code's arguments at `views.magnitude`: the usual scale ends at 10, the released code has 16.

    SamplePairing is not in the released code, and the paper gives no argument for it. Its weight is AutoAugment's
    (Cubuk et al. 2018), 0 to 0.4 along the scale, but at most 1/2 as in Inoue (2018), who proposed the operation: with
    more, the other image would outweigh the one that the pseudo label belongs to. At magnitude 10 `cutout_const` is
    half of Cutout's side (released: 4 for 32x32 pixels, 40 for 224x224), `translate_const` the shift (4 and 100).
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


# Constant tables are cached: a copy to the device in each step would make the host wait.
@cache
def indices(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """0, 1, 2, ..., [count]."""
    return torch.arange(count, dtype=dtype, device=device)


@cache
def pool(operations: Operations, device: torch.device) -> Tensor:
    """The pool's operations, int64 [their number]."""
    return torch.tensor(POOLS[operations], dtype=torch.int64, device=device)


@cache
def _maps(args: Arguments, height: int, width: int, device: torch.device) -> Tensor:
    """The map of each operation with positive and with negative sign, float32 [operations, 2, 6]."""
    maps = [[UNMOVED, UNMOVED] for _ in Operation]
    for index, sign in enumerate((1, -1)):
        maps[Operation.rotate][index] = rotation(sign * args.degrees, height, width)
        # About the top left corner (released): a row y pixels down reads `slope` y pixels further right.
        maps[Operation.shear_x][index] = (1.0, sign * args.slope, 0.0, 0.0, 1.0, 0.0)
        maps[Operation.shear_y][index] = (1.0, 0.0, 0.0, sign * args.slope, 1.0, 0.0)
        # Reads so many pixels further right or down, so that the content moves left or up.
        maps[Operation.translate_x][index] = (1.0, 0.0, sign * args.pixels, 0.0, 1.0, 0.0)
        maps[Operation.translate_y][index] = (1.0, 0.0, 0.0, 0.0, 1.0, sign * args.pixels)
    return torch.tensor(maps, dtype=torch.float32, device=device)


@cache
def _tables(args: Arguments, device: torch.device) -> Tensor:
    """The table of each operation whose table is the same for all images, uint8 [operations, 256]."""
    tables = [list(range(256)) for _ in Operation]
    tables[Operation.invert] = list(range(255, -1, -1))
    tables[Operation.posterize] = posterize_table(args.bits)
    tables[Operation.solarize] = solarize_table(args.threshold, args.arithmetic)
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
    """One layer of RandAugment on images [N, 3, H, W] as the layer before left them.

    SamplePairing's partners come from `weak` [M, 3, H, W], the whole batch before the first layer, so that an image's
    result does not depend on its partner's draws.
    """
    operation = torch.where(layer.applied, layer.operation, Operation.identity)
    images = _look_up(_move(images, layer, operation, args), operation, args)
    return _blend(images, weak, layer, operation, args)


def _move(images: Tensor, layer: Layer, operation: Tensor, args: Arguments) -> Tensor:
    """Rotate, ShearX, ShearY, TranslateX, TranslateY and Cutout."""
    height, width = images.shape[-2:]
    maps = _maps(args, height, width, images.device)[operation, layer.negative.long()]
    rows, columns = read_from(maps, height, width)
    cut = (operation == Operation.cutout)[:, None, None]
    erased = square(layer.centre, args.half, height, width) & cut
    return read_pixels(images, rows, columns, args.fill, erased)


def _look_up(images: Tensor, operation: Tensor, args: Arguments) -> Tensor:
    """AutoContrast, Equalize, Invert, Posterize and Solarize."""
    levels, chosen = images.flatten(2).long(), operation[:, None, None]
    table = _tables(args, images.device)[operation][:, None]
    table = torch.where(chosen == Operation.auto_contrast, auto_contrast_table(images), table)
    table = torch.where(chosen == Operation.equalize, equalize_table(levels), table)
    return table.gather(2, levels).reshape(images.shape)


def _blend(images: Tensor, weak: Tensor, layer: Layer, operation: Tensor, args: Arguments) -> Tensor:
    """Color, Contrast, Brightness, Sharpness and SamplePairing; the factor 1 leaves the other images as they are."""
    pixels, chosen = images.to(torch.float32), operation[:, None, None, None]
    factor = _factors(args, images.device)[chosen]
    degenerate = torch.where(chosen == Operation.color, grey(pixels), 0)
    degenerate = torch.where(chosen == Operation.contrast, contrast_pivot(images, args.arithmetic), degenerate)
    degenerate = torch.where(chosen == Operation.sharpness, smooth(pixels), degenerate)
    if args.pairing is not None:
        pairs = chosen == Operation.sample_pairing
        degenerate = torch.where(pairs, weak[layer.partner].to(torch.float32), degenerate)
    return blend(degenerate, pixels, factor, args.arithmetic)


# Pixels moved and erased


def rotation(degrees: float, height: int, width: int) -> Map:
    """About the image's centre; positive angles turn the content anticlockwise as seen."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    right, down = (width - 1) / 2, (height - 1) / 2
    return cos, -sin, right - cos * right + sin * down, sin, cos, down - sin * right - cos * down


def round_half_away(values: Tensor) -> Tensor:
    """Nearest whole numbers, int32; halves go away from zero, as in C's `round`; `Tensor.round` takes the even one."""
    whole = values.to(torch.int32)  # the cast drops the fraction
    return whole + (2 * (values - whole)).to(torch.int32)  # difference and double are exact in floating point


def read_from(maps: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Rows and columns that N maps, float32 [N, 6], read from, to the nearest: int32 [N, H, W] each."""
    x = indices(width, maps.dtype, maps.device)
    y = indices(height, maps.dtype, maps.device)[:, None]
    along, down, start = maps.reshape(len(maps), 2, 3, 1, 1).unbind(2)  # [N, 2, 1, 1]: of columns, of rows
    columns, rows = round_half_away(along * x + down * y + start).unbind(1)
    return rows, columns


def square(centre: Tensor, half: int, height: int, width: int) -> Tensor:
    """The squares of side 2 `half` pixels that Cutout erases, bool [N, H, W].

    A square takes the rows from centre - half to centre + half - 1, and the columns in the same way, and stops at the
    image's edges (released). Centres, float32 [N, 2] in [0, 1), are shares of height and width.
    """
    row, column = (centre[:, 0] * height).floor(), (centre[:, 1] * width).floor()
    return _within(row, half, height)[:, :, None] & _within(column, half, width)[:, None, :]


def _within(centre: Tensor, half: int, size: int) -> Tensor:
    """Which of `size` positions lie in [centre - half, centre + half), bool [N, size]."""
    distance = indices(size, torch.int64, centre.device) - centre[:, None]
    return (distance >= -half) & (distance < half)


def read_pixels(images: Tensor, rows: Tensor, columns: Tensor, fill: int, erased: Tensor | None = None) -> Tensor:
    """Pixels of images [N, C, H, W] read from whole-numbered rows and columns, [N, H, W] or broadcast to it.

    The value is `fill` outside the image, and where `erased`, bool [N, H, W], says so.
    """
    channels, height, width = images.shape[1:]
    # One pixel of fill stands around each image; everything outside, and what is erased, is read from there.
    framed = functional.pad(images, (1, 1, 1, 1), value=fill).flatten(2)
    index = (rows.clamp(-1, height) + 1) * (width + 2) + (columns.clamp(-1, width) + 1)
    if erased is not None:
        index = index.masked_fill(erased, 0)
    return framed.gather(2, index.flatten(1).long()[:, None].expand(-1, channels, -1)).reshape(images.shape)


# Values: tables from old to new, and blends with a degenerate image


def posterize_table(bits: int) -> list[int]:
    """Keeps the `bits` highest of 8 bits: 0 leave nothing, 8 and more everything.

    The released code shifts by 8 - bits, and TensorFlow leaves shifts outside 0..7 to the implementation.
    """
    shift = 8 - min(bits, 8)
    return [value >> shift << shift for value in range(256)]


def solarize_table(threshold: int, arithmetic: Arithmetic) -> list[int]:
    """Inverts the values from the threshold on.

    `released`: the threshold is cast to uint8, so 256 is 0 and 409 is 153. `standard`: 256 and more leave all as is.
    """
    stop = threshold % 256 if arithmetic is Arithmetic.released else threshold
    return [value if value < stop else 255 - value for value in range(256)]


def auto_contrast_table(images: Tensor) -> Tensor:
    """Stretches each channel to 0..255, rounding down; a channel of one value stays. Uint8 [N, C, 256]."""
    low = images.amin(dim=(2, 3)).to(torch.float32)[..., None]
    high = images.amax(dim=(2, 3)).to(torch.float32)[..., None]
    values = indices(256, torch.float32, images.device)
    # 255 is a tensor here because torch divides a plain number by a tensor as 255 (1 / tensor), which rounds twice.
    scale = torch.full_like(high, 255) / (high - low).clamp(min=1)
    stretched = (values * scale + -low * scale).clamp(0, 255)
    return torch.where(high > low, stretched, values).to(torch.uint8)


def equalize_table(levels: Tensor) -> Tensor:
    """Makes the values of each channel, int64 [N, C, H W], as evenly frequent as Pillow does. Uint8 [N, C, 256]."""
    pixels = levels.shape[2]
    counts = _histogram(levels)
    step = (pixels - counts.gather(2, levels.amax(dim=2, keepdim=True))) // 255  # the highest value does not count
    below = counts.cumsum(2, dtype=torch.int32) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=255)
    unchanged = indices(256, torch.int32, levels.device)
    return torch.where(step > 0, table, unchanged).to(torch.uint8)


def _histogram(levels: Tensor) -> Tensor:
    """How often each of the values 0 to 255 comes, int32 [N, C, 256].

    Whole numbers give the same sum in any order, so deterministic mode is off here. With it, PyTorch would sort all
    pixels on a GPU, and some versions would make the host wait, which no recorded step may do.
    """
    one = torch.ones((), dtype=torch.int32, device=levels.device)
    counts = torch.zeros(*levels.shape[:2], 256, dtype=torch.int32, device=levels.device)
    mode = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("default")
    try:
        return counts.scatter_add_(2, levels, one.expand(levels.shape))
    finally:
        torch.set_deterministic_debug_mode(mode)


def grey(pixels: Tensor) -> Tensor:
    """Grey of red, green and blue, 0..255, rounded down: float32 [N, 3, H, W] to [N, 1, H, W] (released)."""
    red, green, blue = (pixels * (1 / 255)).unbind(1)
    level: Tensor = (red * _GREY[0] + green * _GREY[1] + blue * _GREY[2]) * 255.5
    return level.to(torch.int32).to(torch.float32)[:, None]


def contrast_pivot(images: Tensor, arithmetic: Arithmetic) -> Tensor | float:
    """The grey level about which Contrast stretches: one number, or float32 [N, 1, 1, 1].

    `released`: the mean of the histogram's counts instead of its values, which is the number of pixels / 256: 4 at
    32x32. `standard`: the image's mean grey to the nearest whole number, as Pillow computes it.
    """
    pixels = images.shape[-2] * images.shape[-1]
    if arithmetic is Arithmetic.released:
        return float(min(pixels // 256, 255))
    red, green, blue = images.to(torch.int32).unbind(1)
    level: Tensor = (red * _PILLOW_GREY[0] + green * _PILLOW_GREY[1] + blue * _PILLOW_GREY[2] + (1 << 15)) >> 16
    mean = (2 * level.sum(dim=(1, 2)) + pixels) // (2 * pixels)
    return mean.to(torch.float32)[:, None, None, None]


def smooth(pixels: Tensor) -> Tensor:
    """3x3 means with weight 5 in the middle, rounded down; the outermost pixels stay. Float32 [N, C, H, W], 0..255.

    The nine products are added one by one, row by row, as TensorFlow does: where a sum of thirteenths is a whole
    number, the order decides on which side of it the float32 result falls.
    """
    height, width = pixels.shape[-2:]
    outer, middle = pixels.flatten(2) * (1 / 13), pixels.flatten(2) * (5 / 13)
    # Rows lie end to end, so each of the nine products is one long slice; values across row ends are left out.
    total = torch.zeros_like(outer[..., : (height - 2) * width])
    sums = total[..., :-2]
    for down in range(3):
        for right in range(3):
            weighted = middle if down == right == 1 else outer
            sums += weighted[..., down * width + right :][..., : sums.shape[-1]]
    smoothed = pixels.clone()
    rounded = total.to(torch.int32)  # drops the fraction, in a seventh of `trunc`'s time
    smoothed[..., 1:-1, 1:-1] = rounded.reshape(*pixels.shape[:2], height - 2, width)[..., :-2]
    return smoothed


def blend(degenerate: Tensor, pixels: Tensor, factor: Tensor | float, arithmetic: Arithmetic) -> Tensor:
    """From the degenerate image (factor 0) to the image (factor 1) or beyond it, uint8 [N, C, H, W].

    Both are float32, 0..255; the factor is one for all or float32 [N, 1, 1, 1]. Exactly 1 gives the image unchanged,
    since the last 0.5 in 255.5 outweighs all rounding before it. Negative results are 0. `released`: those above 255
    wrap modulo 256. `standard`: they are 255.
    """
    start, mixed = degenerate * (1 / 255), pixels * (1 / 255)
    # start + factor (end - start) in steps, not torch.lerp: a fused product and sum rounds otherwise on some devices.
    mixed -= start
    mixed *= factor
    mixed += start
    mixed.clamp_(min=0, max=None if arithmetic is Arithmetic.released else 1)
    mixed *= 255.5
    return mixed.to(torch.int32).to(torch.uint8)  # from int32 the cast wraps on every device, from float32 it need not
