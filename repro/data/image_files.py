"""Images that stay in their files until a step asks for them: decoded, cropped and resized, in threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from repro.data.image_modes import SMALLEST, as_rgb, in_words, too_small, turned, upright

Box = tuple[float, float, float, float]
"""Left, upper, right and lower edge in pixels of the upright image, as Pillow has them."""

_CHUNK = 4  # images a task: few enough to share a batch out evenly, enough to make little of the hand-over


@dataclass(frozen=True)
class ImageFiles:
    """N images in files, each of its own width and height.

    Seen from outside, an array uint8 [N, 3, size, size] of which any part can be had, but only when it is read.
    """

    root: Path
    paths: np.ndarray  # bytes [N], names as the file system has them, relative to `root`
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

    def path(self, number: int) -> Path:
        """Of one image."""
        return self.root / os.fsdecode(self.paths[number])

    def read(self, boxes: np.ndarray, readers: int = 1) -> Tensor:
        """All images, each cropped to its box, float [N, 4], and resized: uint8 [N, 3, size, size]."""
        return self.start_reading(boxes, readers)()

    def start_reading(self, boxes: np.ndarray, readers: int) -> Callable[[], Tensor]:
        """Begins to read in `readers` threads; what is returned waits for the end and gives what `read` gives.

        Raises (what is returned does):
            ValueError: naming the file that cannot be read, and the remedy.
        """
        target = np.empty((len(self), self.size, self.size, 3), dtype=np.uint8)
        edges: list[Box] = [tuple(box) for box in boxes.tolist()]

        def fill(first: int) -> None:
            for i in range(first, min(first + _CHUNK, len(self))):
                target[i] = read_image(self.path(i), edges[i], self.size)

        pool = _readers(os.getpid(), readers)
        tasks: Sequence[Future[None]] = [pool.submit(fill, first) for first in range(0, len(self), _CHUNK)]

        def finished() -> Tensor:
            for task in tasks:
                task.result()
            return torch.from_numpy(target).permute(0, 3, 1, 2).contiguous()

        return finished

    def centre(self, share: float, readers: int = 1) -> Tensor:
        """The centre squares, of a side that is `share` of the shorter one, resized: uint8 [N, 3, size, size]."""
        return self.read(centres(self.sides, share), readers)


def centres(sides: np.ndarray, share: float) -> np.ndarray:
    """Boxes, float64 [N, 4], of the centre squares of images, int [N, 2], with a share of the shorter side."""
    side = sides.min(axis=1, keepdims=True) * share
    start = (sides - side) / 2
    return np.concatenate([start, start + side], axis=1)


@cache
def _readers(_process: int, count: int) -> ThreadPoolExecutor:
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
            return read_open(image, box, size)
    except Exception as error:  # Pillow has an error of its own for each kind of damage
        raise ValueError(
            f"{path} cannot be read any more ({error}); put it back, or prepare again: python -m repro.cli.prepare"
        ) from error


def read_centre(path: Path, share: float, size: int) -> np.ndarray:
    """The centre square of an image of unknown sides, as `ImageFiles.centre` reads it, uint8 [size, size, 3].

    Raises:
        ValueError: naming what is wrong, in a few words without the path, when it is no whole image.
    """
    try:
        with Image.open(path) as image:
            sides = image.size[::-1] if turned(image) else image.size
            if min(sides) >= SMALLEST:
                return read_open(image, tuple(centres(np.array([sides]), share)[0].tolist()), size)
    except Exception as error:  # Pillow has an error of its own for each kind of damage
        raise ValueError(in_words(error, path)) from error
    raise ValueError(too_small(sides))


def read_open(image: Image.Image, box: Box, size: int) -> np.ndarray:
    """As `read_image`, of an image that is open and not yet decoded."""
    scale = (1.0, 1.0)
    shrink = min(box[2] - box[0], box[3] - box[1]) / (2 * size)
    if shrink >= 2 and image.format in {"JPEG", "MPO"}:
        width, height = image.size
        image.draft(None, (int(width / shrink), int(height / shrink)))
        scale = image.width / width, image.height / height
        scale = scale[::-1] if turned(image) else scale
    image = as_rgb(upright(image))
    left, upper, right, lower = (edge * scale[i % 2] for i, edge in enumerate(box))
    inside = (max(left, 0.0), max(upper, 0.0), min(right, image.width), min(lower, image.height))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=inside))
