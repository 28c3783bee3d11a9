"""How an image of any format becomes three channels of 8 bits, the right way up; and why one cannot, in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

SMALLEST = 8
"""Pixels of the shorter side below which an image is taken for damaged: an icon or a tracking pixel."""

_ORIENTATION = 0x0112  # EXIF's tag; 5 and above swap width and height


def turned(image: Image.Image) -> bool:
    """Whether width and height change places when the image is set upright."""
    return bool(image.getexif().get(_ORIENTATION, 1) >= 5)


def upright(image: Image.Image) -> Image.Image:
    """The image, decoded, as its EXIF orientation wants it seen."""
    ImageOps.exif_transpose(image, in_place=True)
    return image


def as_rgb(image: Image.Image) -> Image.Image:
    """The image with three channels of 8 bits.

    16-bit grey levels keep their upper 8 bits, transparency is dropped, of an animation the first picture is taken.

    Raises:
        ValueError: for pixels that are no whole numbers, whose scale nobody knows.
    """
    if image.mode == "RGB":
        return image
    if image.mode == "F":
        raise ValueError("its pixels are no whole numbers (mode F)")
    if image.mode.startswith("I"):  # Pillow's modes of more than 8 bits, which it would not scale but clip
        levels = np.asarray(image)
        image = Image.fromarray((levels >> 8 if levels.max() > 255 else levels).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB Pillow would warn of what is dropped
    return image.convert("RGB")


def too_small(sides: tuple[int, int]) -> str:
    """What is wrong with an image of these sides."""
    return f"{sides[0]} x {sides[1]} pixels, fewer than {SMALLEST} on a side"


def in_words(error: Exception, path: Path) -> str:
    """Why a file is no whole image, from what was raised: a few words, without its path."""
    if isinstance(error, UnidentifiedImageError):
        return "no image of a format that Pillow knows" if path.stat().st_size else "empty file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200] or type(error).__name__
