"""Operations on pixel values: tables from old value to new, and blends with a degenerate image.

Everything is computed as the released code does it, in float32 and in its order of operations, so that every device
gives the same bytes. Where `Arithmetic` matters, the function says how.
"""

from __future__ import annotations

import torch
from torch import Tensor

from repro.config.data import Arithmetic

_GREY = (0.2989, 0.5870, 0.1140)  # of red, green and blue (TensorFlow's rgb_to_grayscale)
_PILLOW_GREY = (19595, 38470, 7471)  # the same in 65,536ths, as Pillow rounds them


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
    """Stretches each channel to 0..255, rounding down; a channel of one value stays. Uint8 [N, C, 256].

    Args:
        images: uint8 [N, C, H, W].
    """
    low = images.amin(dim=(2, 3)).to(torch.float32)[..., None]
    high = images.amax(dim=(2, 3)).to(torch.float32)[..., None]
    values = torch.arange(256, dtype=torch.float32, device=images.device)
    # 255 is a tensor here because torch divides a plain number by a tensor as 255 (1 / tensor), which rounds twice.
    scale = torch.full_like(high, 255) / (high - low).clamp(min=1)
    stretched = (values * scale + -low * scale).clamp(0, 255)
    return torch.where(high > low, stretched, values).to(torch.uint8)


def equalize_table(levels: Tensor) -> Tensor:
    """Makes each channel's values as evenly frequent as it can, as Pillow does. Uint8 [N, C, 256].

    Args:
        levels: int64 [N, C, H W], the pixels.
    """
    pixels = levels.shape[2]
    counts = _histogram(levels)
    step = (pixels - counts.gather(2, levels.amax(dim=2, keepdim=True))) // 255  # the highest value does not count
    below = counts.cumsum(2, dtype=torch.int32) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=255)
    unchanged = torch.arange(256, dtype=torch.int32, device=levels.device)
    return torch.where(step > 0, table, unchanged).to(torch.uint8)


def _histogram(levels: Tensor) -> Tensor:
    """How often each of the values 0 to 255 comes, int32 [N, C, 256].

    Whole numbers give the same sum in any order, so a GPU is spared the sort of all pixels by which PyTorch keeps an
    order where it is told to, and for which some versions make the host wait: no recorded step may hold that.
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
    """Grey of red, green and blue, rounded down, float32 [N, 1, H, W] with values 0..255 (released).

    Args:
        pixels: float32 [N, 3, H, W], 0..255.
    """
    red, green, blue = (pixels * (1 / 255)).unbind(1)
    level: Tensor = (red * _GREY[0] + green * _GREY[1] + blue * _GREY[2]) * 255.5
    return level.to(torch.int32).to(torch.float32)[:, None]


def contrast_pivot(images: Tensor, arithmetic: Arithmetic) -> Tensor | float:
    """The grey level about which Contrast stretches: one number, or float32 [N, 1, 1, 1].

    `released`: the mean of the histogram's counts instead of its values, which is the number of pixels / 256: 4 at
    32x32. `standard`: the image's mean grey to the nearest whole number, as Pillow computes it.

    Args:
        images: uint8 [N, 3, H, W].
        arithmetic: which of the two.
    """
    pixels = images.shape[-2] * images.shape[-1]
    if arithmetic is Arithmetic.released:
        return float(min(pixels // 256, 255))
    red, green, blue = images.to(torch.int32).unbind(1)
    level: Tensor = (red * _PILLOW_GREY[0] + green * _PILLOW_GREY[1] + blue * _PILLOW_GREY[2] + (1 << 15)) >> 16
    mean = (2 * level.sum(dim=(1, 2)) + pixels) // (2 * pixels)
    return mean.to(torch.float32)[:, None, None, None]


def smooth(pixels: Tensor) -> Tensor:
    """3x3 means with weight 5 in the middle, rounded down; the outermost pixels stay. Float32 [N, C, H, W].

    The nine products are added one by one, row by row, as TensorFlow does: where a sum of thirteenths is a whole
    number, the order decides on which side of it the float32 result falls.

    Args:
        pixels: float32 [N, C, H, W], 0..255.
    """
    height, width = pixels.shape[-2:]
    outer, middle = pixels.flatten(2) * (1 / 13), pixels.flatten(2) * (5 / 13)
    # Rows lie end to end, so that each of the nine is one long slice; what runs from one row into the next is left out.
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
    """From the degenerate image (factor 0) past the image (factor 1) to beyond it, uint8 [N, C, H, W].

    A factor of exactly 1 gives the image unchanged, since the last 0.5 in 255.5 outweighs all rounding before it.
    Negative results are 0. `released`: those above 255 wrap modulo 256. `standard`: they are 255.

    Args:
        degenerate: float32 [N, C, H, W] or broadcast to it, 0..255.
        pixels: float32 [N, C, H, W], 0..255.
        factor: one for all, or float32 [N, 1, 1, 1].
        arithmetic: what happens above 255.
    """
    start, mixed = degenerate * (1 / 255), pixels * (1 / 255)
    # start + factor (end - start) in steps, not torch.lerp: a fused product and sum rounds otherwise on some devices.
    mixed -= start
    mixed *= factor
    mixed += start
    mixed.clamp_(min=0, max=None if arithmetic is Arithmetic.released else 1)
    mixed *= 255.5
    return mixed.to(torch.int32).to(torch.uint8)  # from int32 the cast wraps on every device, from float32 it need not
