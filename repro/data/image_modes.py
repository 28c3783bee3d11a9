"""How an image of any format becomes three channels of 8 bits, the right way up."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

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
