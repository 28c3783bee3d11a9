"""Where each pixel of a view is read from: affine maps to the nearest pixel, crops and squares, whole batches at once.

Images are uint8 [N, C, H, W]. A map is six numbers (a, b, c, d, e, f): the pixel in column x and row y of the output is
read from column a x + b y + c and row d x + e y + f of the input (released: `tf.contrib.image.transform`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

Map = tuple[float, float, float, float, float, float]

UNMOVED: Map = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def rotation(degrees: float, height: int, width: int) -> Map:
    """About the image's centre; positive angles turn the content anticlockwise as seen."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    right, down = (width - 1) / 2, (height - 1) / 2
    return cos, -sin, right - cos * right + sin * down, sin, cos, down - sin * right - cos * down


def shear_x(slope: float) -> Map:
    """About the top left corner (released): a row y pixels down reads `slope` y pixels further right."""
    return 1.0, slope, 0.0, 0.0, 1.0, 0.0


def shear_y(slope: float) -> Map:
    """About the top left corner (released): a column x pixels to the right reads `slope` x pixels further down."""
    return 1.0, 0.0, 0.0, slope, 1.0, 0.0


def translation(right: float, down: float) -> Map:
    """Reads that many pixels further right and down, so the content moves left and up."""
    return 1.0, 0.0, right, 0.0, 1.0, down


def round_half_away(values: Tensor) -> Tensor:
    """Nearest whole numbers, int32; halves away from zero as in C's `round`; `Tensor.round` has them even."""
    whole = values.to(torch.int32)  # the cast drops the fraction
    return whole + (2 * (values - whole)).to(torch.int32)  # difference and double are exact in floating point


def source(maps: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Rows and columns that N maps, float32 [N, 6], read from, to the nearest: int32 [N, H, W] each."""
    x = torch.arange(width, dtype=maps.dtype, device=maps.device)
    y = torch.arange(height, dtype=maps.dtype, device=maps.device)[:, None]
    a, b, c, d, e, f = maps[:, :, None, None].unbind(1)
    return round_half_away(d * x + e * y + f), round_half_away(a * x + b * y + c)


def square(centre: Tensor, half: int, height: int, width: int) -> Tensor:
    """The squares of side 2 `half` that Cutout erases, bool [N, H, W].

    A square takes the rows from its centre's - half up to, but without, its centre's + half, and stops at the image's
    edges (released); columns likewise.

    Args:
        centre: float32 [N, 2] in [0, 1), the centre's row and column as a share of height and width.
        half: half the side, in pixels.
        height: of the image, in pixels.
        width: of the image, in pixels.
    """
    row, column = (centre[:, 0] * height).floor(), (centre[:, 1] * width).floor()
    return _within(row, half, height)[:, :, None] & _within(column, half, width)[:, None, :]


def _within(centre: Tensor, half: int, size: int) -> Tensor:
    """Which of `size` positions lie in [centre - half, centre + half), bool [N, size]."""
    distance = torch.arange(size, device=centre.device) - centre[:, None]
    return (distance >= -half) & (distance < half)


def read(images: Tensor, rows: Tensor, columns: Tensor, fill: int, erased: Tensor | None = None) -> Tensor:
    """Pixels read from whole-numbered rows and columns; `fill` where those lie outside the image, or where `erased`.

    Args:
        images: uint8 [N, C, H, W].
        rows: of any number type, [N, H, W] or broadcast to it.
        columns: likewise.
        fill: pixel value, 0 to 255.
        erased: bool [N, H, W].
    """
    channels, height, width = images.shape[1:]
    # One pixel of fill stands around each image; everything outside, and what is erased, is read from there.
    framed = functional.pad(images, (1, 1, 1, 1), value=fill).flatten(2)
    index = (rows.clamp(-1, height) + 1) * (width + 2) + (columns.clamp(-1, width) + 1)
    if erased is not None:
        index = index.masked_fill(erased, 0)
    return framed.gather(2, index.flatten(1).long()[:, None].expand(-1, channels, -1)).reshape(images.shape)


def crop(images: Tensor, flip: Tensor, offset: Tensor, padding: int, fill: int) -> Tensor:
    """Flips left to right where told, pads with `fill` on all sides, and crops to the size before at `offset`.

    Args:
        images: uint8 [N, C, H, W].
        flip: bool [N].
        offset: int64 [N, 2], the crop's first row and column in the padded image, 0 to 2 `padding`.
        padding: pixels on each side.
        fill: pixel value, 0 to 255.
    """
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device) + (offset[:, :1] - padding)
    columns = torch.arange(width, device=images.device) + (offset[:, 1:] - padding)
    columns = torch.where(flip[:, None], width - 1 - columns, columns)
    return read(images, rows[:, :, None], columns[:, None, :], fill)
