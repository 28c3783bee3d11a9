"""Weak and strong views of images. This file has their settings, and needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

from repro.settings import Probability, Range, Share, Switch, settings


class Operations(StrEnum):
    """The pool from which RandAugment draws."""

    released = "released"  # 15 operations, Cutout among them (released code)
    paper = "paper"  # 15 operations, SamplePairing in place of Cutout (paper, Table 5)
    paper_svhn = "paper_svhn"  # the paper's without SamplePairing, Rotate and TranslateX (Table 5)


class Arithmetic(StrEnum):
    """What the operations do where the released code departs from their sources (RandAugment, Pillow)."""

    released = "released"  # blends and Solarize's threshold wrap modulo 256; Contrast pivots on (pixels / 256)
    standard = "standard"  # blends saturate, Solarize's threshold stops at 256, Contrast pivots on the mean grey


@settings
class Views:
    """The settings of views of any images."""

    operations: Operations = Operations.released
    arithmetic: Arithmetic = Arithmetic.released
    layers: Annotated[int, Range(1, 100)] = 2  # operations one after another
    magnitude: Annotated[float, Range(0, 30, why="10 is the usual end of the scale")] = 16.0  # of every operation
    lowest_rate: Probability = 0.2  # each image draws one probability, uniformly between these two, ...
    highest_rate: Probability = 0.8  # ... with which each of its layers is applied
    fill: Annotated[int, Range(0, 255, why="a pixel value")] = 128  # value of pixels that come from outside the image
    flip: Switch = True  # left to right, with probability 1/2

    def problems(self) -> Iterator[str]:
        """The rates are in order."""
        if self.lowest_rate > self.highest_rate:
            yield (f"data.views.lowest_rate = {self.lowest_rate}: "
                   f"must not exceed data.views.highest_rate = {self.highest_rate}")  # fmt: skip


@settings
class ImageViews(Views):
    """Weak view: flip and crop. Strong view: RandAugment and Cutout on the weak one, then flip and crop once more."""

    cutout: Annotated[int, Range(0, 32, why="the image has 32 pixels")] = 16  # side of the square erased last; 0: none
    crop_padding: Annotated[int, Range(0, 31, why="the image has 32 pixels")] = 4  # pixels of fill around the image
    recrop: Switch = True  # whether the strong view is flipped and cropped once more (released)

    def problems(self) -> Iterator[str]:
        """The rates are in order, and Cutout has a centre."""
        yield from super().problems()
        if self.cutout % 2:
            yield f"data.views.cutout = {self.cutout}: is measured from its centre, so must be even"


@settings
class CropViews(Views):
    """Views of images of any size: of one random crop, resized. Weak: flipped. Strong: flipped, RandAugmented.

    The crop's share of the image's area is uniform, and the ratio of its sides is uniform on a log scale. The two views
    flip independently. Evaluation takes the centre.
    """

    arithmetic: Arithmetic = Arithmetic.standard
    magnitude: Annotated[float, Range(0, 30, why="10 is the usual end of the scale")] = 17.0
    cutout_share: Share = 40 / 224  # half of Cutout's side at magnitude 10, as a share of the image's (released)
    translate_share: Share = 100 / 224  # the shift of TranslateX and TranslateY, as such a share (released)
    smallest_area: Annotated[float, Range(0.0001, 1)] = 0.08  # the crop's share of the image; the largest is 1
    widest_ratio: Annotated[float, Range(1, 10)] = 4 / 3  # of the random crop's sides; the narrowest is its inverse
    evaluated_share: Annotated[float, Range(0.1, 1)] = 0.875  # of the shorter side: the centre square (224 / 256)
