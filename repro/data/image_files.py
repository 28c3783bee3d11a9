"""Images that stay in their files until a step asks for them: decoded, cropped and resized, in threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

Box = tuple[float, float, float, float]
"""Left, upper, right and lower edge in pixels of the upright image, as Pillow has them."""

DAMAGES = (OSError, ValueError, SyntaxError, EOFError, UnidentifiedImageError, Image.DecompressionBombError)
"""What Pillow raises for files that are no whole image."""

_CHUNK = 4  # images a task: few enough to share a batch out evenly, enough to make little of the hand-over


@dataclass(frozen=True)
class ImageFiles:
    """N images in files, each of its own width and height.

    Seen from outside, an array uint8 [N, 3, size, size] of which any part can be had, but only when it is read.
    """

    root: Path
    paths: np.ndarray  # text [N], relative to `root`
    sides: np.ndarray  # int32 [N, 2]: width and height of the upright image, in pixels
    digests: np.ndarray  # uint8 [N, 16], of each file's content
    size: int  # side of what is read, in pixels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Tensor | slice) -> ImageFiles:
        """A part: by a slice, or by int64 [n] with repetitions allowed."""
        where = index if isinstance(index, slice) else index.cpu().numpy()
        return ImageFiles(self.root, self.paths[where], self.sides[where], self.digests[where], self.size)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the array that it stands for."""
        return (len(self), 3, self.size, self.size)

    def to(self, _device: torch.device | str) -> ImageFiles:
        """The same: files lie on no device."""
        return self

    def read(self, boxes: np.ndarray, readers: int = 1) -> Tensor:
        """All images, each cropped to its box, float [N, 4], and resized: uint8 [N, 3, size, size]."""
        return self.start_reading(boxes, readers)()

    def start_reading(self, boxes: np.ndarray, readers: int) -> Callable[[], Tensor]:
        """Begins to read in `readers` threads; what is returned waits for the end and gives what `read` gives.

        Raises (what is returned does):
            ValueError: naming the file that cannot be read, and the remedy.
        """
        images = torch.empty(len(self), self.size, self.size, 3, dtype=torch.uint8)
        target = images.numpy()

        def fill(first: int) -> None:
            for i in range(first, min(first + _CHUNK, len(self))):
                target[i] = read_image(self.root / str(self.paths[i]), tuple(boxes[i]), self.size)

        tasks: Sequence[Future[None]] = [_readers(readers).submit(fill, first) for first in range(0, len(self), _CHUNK)]

        def finished() -> Tensor:
            for task in tasks:
                task.result()
            return images.permute(0, 3, 1, 2)

        return finished

    def centre(self, share: float, readers: int = 1) -> Tensor:
        """The centre squares, of a side that is `share` of the shorter one, resized: uint8 [N, 3, size, size]."""
        side = self.sides.min(axis=1, keepdims=True) * share
        start = (self.sides - side) / 2
        return self.read(np.concatenate([start, start + side], axis=1), readers)


@cache
def _readers(count: int) -> ThreadPoolExecutor:
    """Threads that last as long as the process, started at the first use: a forked worker has none of its parent's."""
    return ThreadPoolExecutor(count, thread_name_prefix="reader")


def read_image(path: Path, box: Box, size: int) -> np.ndarray:
    """The box of an image, resized by bicubic interpolation with antialiasing, uint8 [size, size, 3].

    A JPEG that is much larger than what is wanted is decoded at 1/2, 1/4 or 1/8 of its size, which costs a fraction and
    leaves at least twice the wanted pixels for the interpolation.

    Raises:
        ValueError: when the file cannot be read or is damaged, naming it and the remedy.
    """
    try:
        with Image.open(path) as image:
            shrink = min(box[2] - box[0], box[3] - box[1]) / (2 * size)
            full = image.size
            if shrink >= 2:
                image.draft(None, (int(image.width / shrink), int(image.height / shrink)))
            scale = image.width / full[0], image.height / full[1]
            upright_image = upright(image)
            if upright_image.size != image.size and _turned(image):
                scale = scale[::-1]
            return _resized(as_rgb(upright_image), box, scale, size)
    except DAMAGES as error:
        raise ValueError(
            f"{path} cannot be read any more ({error}); put it back, or prepare again: python -m repro.cli.prepare"
        ) from error


def _resized(image: Image.Image, box: Box, scale: tuple[float, float], size: int) -> np.ndarray:
    width, height = image.size
    left, upper, right, lower = (edge * scale[i % 2] for i, edge in enumerate(box))
    inside = (max(left, 0.0), max(upper, 0.0), min(right, width), min(lower, height))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=inside))


def upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation wants it seen."""
    return ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image


def upright_sides(image: Image.Image) -> tuple[int, int]:
    """Width and height of the upright image, without decoding it."""
    return image.size[::-1] if _turned(image) else image.size


def as_rgb(image: Image.Image) -> Image.Image:
    """The image with three channels of 8 bits; 16-bit grey levels keep their 8 upper bits, transparency is dropped."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


_ORIENTATION = 0x0112


def _turned(image: Image.Image) -> bool:
    """Whether width and height change places when the image is set upright."""
    return bool(image.getexif().get(_ORIENTATION, 1) >= 5)
