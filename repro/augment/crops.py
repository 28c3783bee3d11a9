"""Where a random crop of an image of any size lies, and the flips of what was cropped."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from repro.config.data import CropViews
from repro.seeding import Step, Streams

_ATTEMPTS = 10  # to find a crop that fits, before the centre is taken


def draw_boxes(streams: Streams, name: str, step: int, sides: np.ndarray, views: CropViews) -> np.ndarray:
    """A box for each of N images, float64 [N, 4]: left, upper, right and lower edge in pixels, within the image.

    Its area is a share of the image's, uniform from `views.smallest_area` to 1; its ratio of width to height is
    log-uniform between 1 / `views.widest_ratio` and `views.widest_ratio`. Of ten draws the first that fits is taken;
    where none does, the largest centred box of an allowed ratio (Szegedy et al. 2015, in torchvision's form).

    Args:
        streams: draws from the stream `name` box.
        name: of the view.
        step: of training.
        sides: int [N, 2], width and height.
        views: the settings.
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


def draw_flips(streams: Streams, name: str, step: Step, count: int, views: CropViews) -> Tensor:
    """Which images are flipped, bool [N]: each with probability 1/2, or none."""
    return (streams.integers(f"{name} flip", step, 2, (count,)) == 1) & views.flip


def apply_flips(images: Tensor, flips: Tensor) -> Tensor:
    """Images [N, C, H, W], those told flipped left to right."""
    return torch.where(flips[:, None, None, None], images.flip(-1), images)
