"""Images in files: how one is decoded, turned upright, cropped and resized; and a look at every file before training.

They stay in their files until a step asks for them. Training, evaluation and prediction read through `read_image`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from torch import Tensor

from repro.augment import CropViews
from repro.files import read_whole, write_whole

warnings.filterwarnings("ignore", module=r"PIL\b")  # what matters is said of each file, once
SMALLEST = 8
"""Pixels of the shorter side below which an image is taken for damaged: an icon or a tracking pixel."""

Box = tuple[float, float, float, float]
"""Left, upper, right and lower edge in pixels of the upright image, as Pillow has them."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif",
                      ".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm"})  # fmt: skip
"""Of image files, in small letters; a file without one of them is an image where its content is one."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM")
"""What is read, by content. Pillow knows more; some of it starts other programs."""

FLAT = 16
"""Grey levels of 256 below which an image is nearly of one colour."""

Levels = tuple[float, float]
"""Of pixels of more than 8 bits: what becomes 0 and what becomes 255."""

UNKNOWN = -1
"""The class of an image of which none is known."""

_ORIENTATION = 0x0112  # EXIF's tag; 5 to 8 swap width and height
_TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
          5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
          8: Image.Transpose.ROTATE_90}  # fmt: skip
_JPEG = {"JPEG", "MPO"}
_WRITE_EVERY = 60.0  # seconds after which what was looked at is kept, so that a kill costs no more
_SAY_EVERY = 5.0
_AT_ONCE = 256  # files handed to the threads between two looks at the clock


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
    views: CropViews = field(default_factory=CropViews)
    levels: Levels | None = None  # of those of more than 8 bits; None where there is none of them

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Tensor | slice) -> ImageFiles:
        """A part: by a slice, or by int64 [n] with repetitions allowed."""
        where = index if isinstance(index, slice) else index.cpu().numpy()
        return replace(self, paths=self.paths[where], sides=self.sides[where], digests=self.digests[where])

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

    def centre(self, readers: int = 1) -> Tensor:
        """The centre squares that evaluation looks at, resized: uint8 [N, 3, size, size]."""
        return self.start_reading(centres(self.sides, self.views.evaluated_share), readers)()

    def start_reading(self, boxes: np.ndarray, readers: int = 1) -> Callable[[], Tensor]:
        """Begins to read in `readers` threads; what is returned waits for the end.

        That gives all images, each cropped to its box, float [N, 4], and resized: uint8 [N, 3, size, size].
        """

        def one(path: Path, box: Box) -> np.ndarray:
            try:
                return read_image(path, self.size, box, self.levels)
            except ValueError as error:
                raise ValueError(f"{path} cannot be read any more ({error}); put it back, or prepare again: repro "
                                 "prepare") from error  # fmt: skip

        pool, paths = _readers(os.getpid(), readers), [self.path(number) for number in range(len(self))]
        images = pool.map(one, paths, map(tuple, boxes.tolist()))
        shape = (-1, self.size, self.size, 3)
        return lambda: torch.from_numpy(np.array([*images], np.uint8).reshape(shape)).permute(0, 3, 1, 2).contiguous()


def opened(file: Path | io.BytesIO) -> Image.Image:
    """An image, of which the header is read; raises errors of many kinds when it is none."""
    Image.init()
    return Image.open(file, formats=[kind for kind in FORMATS if kind in Image.OPEN])


@cache
def _readers(_process: int, count: int) -> ThreadPoolExecutor:
    """Threads that last as long as the process, started at the first use: a forked worker has none of its parent's."""
    return ThreadPoolExecutor(count, thread_name_prefix="reader")


def centres(sides: np.ndarray, share: float) -> np.ndarray:
    """Boxes, float64 [N, 4], of the centre squares of images, int [N, 2], with a share of the shorter side."""
    side = sides.min(axis=1, keepdims=True) * share
    start = (sides - side) / 2
    return np.concatenate([start, start + side], axis=1)


def read_image(path: Path, size: int, where: Box | float, levels: Levels | None = None) -> np.ndarray:
    """A box of an image, resized by bicubic interpolation with antialiasing, uint8 [size, size, 3].

    A JPEG that is much larger than what is wanted is decoded at 1/2, 1/4 or 1/8 of its size, which costs a fraction and
    leaves at least twice the wanted pixels for the interpolation. `where` may also be the side of a centre square, as a
    share of the shorter side; `levels` is the data set's scale for pixels of more than 8 bits. A ValueError says why a
    file is no whole image, in a few words without the path.
    """
    try:
        with opened(io.BytesIO(read_whole(path))) as image:
            return resized(image, size, where, levels)
    except Exception as error:  # Pillow has an error of its own for each kind of damage
        raise ValueError(_in_words(error, path)) from error


def resized(image: Image.Image, size: int, where: Box | float, levels: Levels | None = None) -> np.ndarray:
    """The same of an image that is open; raises many kinds of errors where it is damaged."""
    sides, box = (0, 0), None
    if image.format in _JPEG and isinstance(image, ImageFile):  # its sides are known before it is decoded
        sides = _header_sides(image)
        box = _box(sides, where)
        shrink = min(box[2] - box[0], box[3] - box[1]) / (2 * size)
        if shrink >= 2:
            image.draft(None, (int(image.width / shrink), int(image.height / shrink)))
    upright = as_rgb(_upright(image), levels)
    if box is None:
        sides = upright.size
        box = _box(sides, where)
    scale = upright.width / sides[0], upright.height / sides[1]
    left, upper, right, lower = (edge * scale[i % 2] for i, edge in enumerate(box))
    inside = (max(left, 0.0), max(upper, 0.0), min(right, upright.width), min(lower, upright.height))
    return np.asarray(upright.resize((size, size), Image.Resampling.BICUBIC, box=inside))


def is_image(path: Path) -> bool:
    """Whether a file is to be read as an image: by its suffix, or, where that says nothing, by its content."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with opened(path):
            return True
    except Exception:  # noqa: BLE001 - Pillow has an error of its own for each kind of damage
        return False


def _box(sides: tuple[int, int], where: Box | float) -> Box:
    if min(sides) < SMALLEST:
        raise ValueError(f"{sides[0]} x {sides[1]} pixels, fewer than {SMALLEST} on a side")
    if isinstance(where, tuple):
        return where
    left, upper, right, lower = centres(np.array([sides]), where)[0].tolist()
    return left, upper, right, lower


def _orientation(image: Image.Image) -> int:
    """What EXIF or XMP say; 1, upright, where they say nothing, a text, another number, or are damaged."""
    try:
        found = image.getexif().get(_ORIENTATION)
        return int(found) if found in _TURNS else 1
    except Exception:  # noqa: BLE001 - Pillow has an error of its own for each kind of damage
        return 1


def _header_sides(image: Image.Image) -> tuple[int, int]:
    """Width and height of a JPEG set upright, before it is decoded."""
    return image.size[::-1] if _orientation(image) >= 5 else image.size


def _upright(image: Image.Image) -> Image.Image:
    """The image, decoded, as its orientation wants it seen; a TIFF is turned, and loses its tag, as it is decoded."""
    image.load()
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def as_rgb(image: Image.Image, levels: Levels | None = None) -> Image.Image:
    """The image with three channels of 8 bits: the first picture of an animation, transparency laid over white.

    Where white would swallow all of it, it is laid over black. Grey levels of more than 8 bits go from the one end of
    `levels` to the other, and stop there; without `levels`, those of 16 bits from 0 to 65,535, and others are refused.
    """
    if _is_deep(image):
        if levels is None and not image.mode.startswith("I;16"):
            raise ValueError(f"pixels of 32 bits (mode {image.mode}), whose scale the training images did not give")
        low, high = levels or (0, 65_535)
        scaled = (_numbers(image) - low) * (255 / max(high - low, 1e-30))
        return Image.fromarray(np.rint(scaled).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = _layer(image)
        if layer.getchannel("A").getbbox() is None:  # nothing would be seen, so the channel means something else
            return layer.convert("RGB")
        white, black = (Image.alpha_composite(Image.new("RGBA", layer.size, ground), layer).convert("RGB")
                        for ground in ("white", "black"))  # fmt: skip
        return white if np.min(white.getextrema()) < 255 - FLAT else black
    return image if image.mode == "RGB" else image.convert("RGB")


def _layer(image: Image.Image) -> Image.Image:
    return image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")


def _is_deep(image: Image.Image) -> bool:
    return image.mode[0] in "IF"  # Pillow's modes of more than 8 bits, which it would not scale but clip


def _numbers(image: Image.Image) -> np.ndarray:
    found = np.asarray(image, dtype=np.float64)
    if not np.isfinite(found).all():
        raise ValueError("some of its pixels are no finite numbers")
    return found


def _in_words(error: Exception, path: Path) -> str:
    """Why a file is no whole image, from what was raised: a few words, without its path."""
    if isinstance(error, UnidentifiedImageError):
        return "no image of a format that Pillow knows" if path.stat().st_size else "empty file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200] or type(error).__name__


class Seen(NamedTuple):
    """What is known of a file, as long as it keeps its size and its time."""

    size: int  # bytes
    changed: int  # nanoseconds since 1970
    digest: str  # BLAKE2b, 16 bytes, of the content, in hexadecimal digits
    damage: str = ""  # why it cannot be used; empty where it can
    sides: Sequence[int] = (0, 0)  # width and height of the upright image, in pixels
    levels: Sequence[float] = (0, 0)  # its lowest and its highest
    deep: bool = False  # whether they have more than 8 bits
    clear: bool = False  # whether something of it is transparent


def look(path: Path) -> Seen:
    """Reads a file to its end and decodes it; a JPEG at an eighth of its size, which finds the same damage sooner."""
    content, size, changed = b"", 0, 0
    try:
        status = path.stat()
        size, changed = status.st_size, status.st_mtime_ns
        content = read_whole(path)
        with opened(io.BytesIO(content)) as image:
            header = _header_sides(image) if image.format in _JPEG else None
            image.draft(None, (1, 1))  # does nothing to other formats
            upright = _upright(image)
            sides = header or upright.size
            _box(sides, 1.0)
            deep, clear = _is_deep(upright), False
            found = _numbers(upright) if deep else np.array(as_rgb(upright).getextrema())
            if upright.has_transparency_data and not deep:
                clear = bool(np.min(_layer(upright).getchannel("A").getextrema()) < 255)
            levels = float(found.min()), float(found.max())
            return Seen(size, changed, _digest(content), "", sides, levels, deep, clear)
    except Exception as error:  # noqa: BLE001 - Pillow has an error of its own for each kind of damage
        return Seen(size, changed, _digest(content), _in_words(error, path))


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def common_levels(seen: Sequence[Seen]) -> Levels | None:
    """The scale of a data set for its pixels of more than 8 bits; None where it has none.

    A customary depth (12 bits in 16, say) where the images fill seven eighths of it, as all of them would look in
    8 bits; else from the lowest level to the highest, so that nothing is lost.
    """
    deep = [level for one in seen if one.deep for level in one.levels]
    if not deep:
        return None
    low, high = min(deep), max(deep)
    for top in (1, *(2**bits - 1 for bits in (8, 10, 12, 14, 16))):
        if low >= 0 and high <= top and high - low > 7 / 8 * top:
            return 0.0, float(top)
    return low, high


def look_at_all(folder: Path, names: Sequence[str], kept: Path) -> dict[str, Seen]:
    """What is known of every file of a folder, by name; only those that are new or changed are read, in threads.

    It is kept in the file `kept` from one time to the next. It says how far it is, where it takes some seconds.
    """
    before = _read_seen(kept)
    found = {name: seen for name in names if (seen := before.get(name)) and _unchanged(folder / name, seen)}
    missing = [name for name in names if name not in found]
    begun = told = written = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(missing), _AT_ONCE):
            some = missing[first : first + _AT_ONCE]
            found.update(zip(some, pool.map(lambda name: look(folder / name), some), strict=True))
            now, done = time.monotonic(), first + len(some)
            if now - told > _SAY_EVERY:
                told, left = now, (now - begun) / done * (len(missing) - done)
                print(f"{folder}: looked at {done:,} of {len(missing):,} images, about {left:.0f} s left")
            if now - written > _WRITE_EVERY:
                written = now
                _write_seen(kept, found)
    if missing or before.keys() != found.keys():
        _write_seen(kept, found)
    return found


def _unchanged(path: Path, seen: Seen) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (seen.size, seen.changed)


def _write_seen(path: Path, found: Mapping[str, Seen]) -> None:
    write_whole(path, zlib.compress(json.dumps(found).encode(), 1))


def _read_seen(path: Path) -> dict[str, Seen]:
    """What `_write_seen` kept; nothing where there is no such file or it is damaged: it is only a saving of time."""
    try:
        return {name: Seen(*row) for name, row in json.loads(zlib.decompress(path.read_bytes())).items()}
    except (OSError, ValueError, TypeError, AttributeError, zlib.error):
        return {}


# The listing that `prepare` leaves


@dataclass(frozen=True)
class Listing:
    """The whole images of a folder, in order of their paths."""

    paths: np.ndarray  # bytes [N], names as the file system has them, relative to the folder of their part
    sides: np.ndarray  # int32 [N, 2]: width and height of the upright image, in pixels
    digests: np.ndarray  # uint8 [N, 16]: BLAKE2b of each file's content
    labels: np.ndarray  # int64 [N]: the class, or UNKNOWN
    named: np.ndarray  # bool [N]: whether it may be trained on as a labelled one; its class is known then
    class_names: np.ndarray  # text [K], in alphabetical order
    levels: np.ndarray  # float64 [2], the scale of training images of more than 8 bits; [0] where there is none

    def without_images(self) -> Listing:
        """Its classes and scale alone."""
        return replace(self, **{k: v[:0] for k, v in vars(self).items() if k not in {"class_names", "levels"}})

    def files(self, folder: Path, size: int, views: CropViews) -> ImageFiles:
        """Its images, to be read from the folder of their part."""
        levels = (float(self.levels[0]), float(self.levels[1])) if len(self.levels) else None
        return ImageFiles(folder, self.paths, self.sides, self.digests, size, views, levels)


def read_listing(root: str, path: Path) -> Listing:
    """The listing that `prepare` made of `root`; refused when there is none, or it is damaged."""
    remedy = f"data.root = {root}: prepare it: repro prepare"
    if not path.is_file():
        raise ValueError(f"{path} is missing; {remedy}")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Listing(**{name: arrays[name] for name in arrays.files})
    except Exception as error:  # NumPy has an error of its own for each kind of damage
        raise ValueError(f"{path} is damaged; {remedy}") from error


def write_listing(path: Path, listing: Listing) -> None:
    """Keeps a listing, whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **vars(listing))
    write_whole(path, buffer.getvalue())
