"""Images in files: how one is decoded, turned upright, cropped and resized; and a look at every file before training.

They stay in their files until a step asks for them. Training, evaluation and prediction read through `read_image`.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from repro.augment.views import draw_boxes
from repro.data import CropViews
from repro.files import write_whole
from repro.seeding import Streams

SMALLEST = 8
"""Pixels of the shorter side below which an image is taken for damaged: an icon or a tracking pixel."""

Box = tuple[float, float, float, float]
"""Left, upper, right and lower edge in pixels of the upright image, as Pillow has them."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
"""Of image files, in small letters."""

UNKNOWN = -1
"""The class of an image of which none is known."""

_ORIENTATION = 0x0112  # EXIF's tag; 5 to 8 swap width and height
_JPEG = {"JPEG", "MPO"}
_CHUNK = 4  # images a task: few enough to share a batch out evenly, enough to make little of the hand-over
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

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Tensor | slice) -> ImageFiles:
        """A part: by a slice, or by int64 [n] with repetitions allowed."""
        where = index if isinstance(index, slice) else index.cpu().numpy()
        return ImageFiles(self.root, self.paths[where], self.sides[where], self.digests[where], self.size, self.views)

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

    def draw_boxes(self, streams: Streams, name: str, step: int) -> np.ndarray:
        """A random box for each image, float64 [N, 4]."""
        return draw_boxes(streams, name, step, self.sides, self.views)

    def centre(self, readers: int = 1) -> Tensor:
        """The centre squares that evaluation looks at, resized: uint8 [N, 3, size, size]."""
        return self.read(centres(self.sides, self.views.evaluated_share), readers)

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
                try:
                    target[i] = read_image(self.path(i), self.size, edges[i])
                except ValueError as error:
                    raise ValueError(
                        f"{self.path(i)} cannot be read any more ({error}); put it back, or prepare again: "
                        "repro prepare"
                    ) from error

        pool = _readers(os.getpid(), readers)
        tasks: Sequence[Future[None]] = [pool.submit(fill, first) for first in range(0, len(self), _CHUNK)]

        def finished() -> Tensor:
            for task in tasks:
                task.result()
            return torch.from_numpy(target).permute(0, 3, 1, 2).contiguous()

        return finished


@cache
def _readers(_process: int, count: int) -> ThreadPoolExecutor:
    """Threads that last as long as the process, started at the first use: a forked worker has none of its parent's."""
    return ThreadPoolExecutor(count, thread_name_prefix="reader")


def centres(sides: np.ndarray, share: float) -> np.ndarray:
    """Boxes, float64 [N, 4], of the centre squares of images, int [N, 2], with a share of the shorter side."""
    side = sides.min(axis=1, keepdims=True) * share
    start = (sides - side) / 2
    return np.concatenate([start, start + side], axis=1)


def read_image(path: Path, size: int, where: Box | float) -> np.ndarray:
    """A box of an image, resized by bicubic interpolation with antialiasing, uint8 [size, size, 3].

    A JPEG that is much larger than what is wanted is decoded at 1/2, 1/4 or 1/8 of its size, which costs a fraction and
    leaves at least twice the wanted pixels for the interpolation.

    Args:
        path: of the file.
        size: side of the result, in pixels.
        where: the box, or, for a centre square, its side as a share of the shorter one.

    Raises:
        ValueError: saying why it is no whole image, in a few words without the path.
    """
    try:
        with Image.open(path) as image:
            sides, box = (0, 0), None
            if image.format in _JPEG:  # its sides are known before it is decoded
                sides = _header_sides(image)
                box = _box(sides, where)
                shrink = min(box[2] - box[0], box[3] - box[1]) / (2 * size)
                if shrink >= 2:
                    image.draft(None, (int(image.width / shrink), int(image.height / shrink)))
            upright = as_rgb(_upright(image))
            if box is None:
                sides = upright.size
                box = _box(sides, where)
            scale = upright.width / sides[0], upright.height / sides[1]
            left, upper, right, lower = (edge * scale[i % 2] for i, edge in enumerate(box))
            inside = (max(left, 0.0), max(upper, 0.0), min(right, upright.width), min(lower, upright.height))
            return np.asarray(upright.resize((size, size), Image.Resampling.BICUBIC, box=inside))
    except Exception as error:  # Pillow has an error of its own for each kind of damage
        raise ValueError(_in_words(error, path)) from error


def _box(sides: tuple[int, int], where: Box | float) -> Box:
    if min(sides) < SMALLEST:
        raise ValueError(f"{sides[0]} x {sides[1]} pixels, fewer than {SMALLEST} on a side")
    if isinstance(where, tuple):
        return where
    left, upper, right, lower = centres(np.array([sides]), where)[0].tolist()
    return left, upper, right, lower


def _header_sides(image: Image.Image) -> tuple[int, int]:
    """Width and height of a JPEG set upright, before it is decoded; an orientation outside 1 to 8 is none."""
    return image.size[::-1] if image.getexif().get(_ORIENTATION) in {5, 6, 7, 8} else image.size


def _upright(image: Image.Image) -> Image.Image:
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


def _in_words(error: Exception, path: Path) -> str:
    """Why a file is no whole image, from what was raised: a few words, without its path."""
    if isinstance(error, UnidentifiedImageError):
        return "no image of a format that Pillow knows" if path.stat().st_size else "empty file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200] or type(error).__name__


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a file, as long as it keeps its size and its time."""

    size: int  # bytes
    changed: int  # nanoseconds since 1970
    sides: tuple[int, int]  # width and height of the upright image, in pixels; 0 where it is damaged
    digest: bytes  # BLAKE2b, 16 bytes, of the content
    damage: str  # why it cannot be used; empty where it can


def look(path: Path) -> Seen:
    """Reads a file to its end and decodes it; a JPEG at an eighth of its size, which finds the same damage sooner."""
    content, size, changed = b"", 0, 0
    try:
        status = path.stat()
        size, changed = status.st_size, status.st_mtime_ns
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            sides = _header_sides(image)
            image.draft(None, (1, 1))  # does nothing to other formats
            upright = as_rgb(_upright(image))
            sides = sides if image.format in _JPEG else upright.size
            _box(sides, 1.0)
        damage = ""
    except Exception as error:  # noqa: BLE001 - Pillow has an error of its own for each kind of damage
        sides, damage = (0, 0), _in_words(error, path)
    digest = hashlib.blake2b(content, digest_size=16).digest()
    return Seen(size, changed, sides, digest, damage)


def look_at_all(folder: Path, names: Sequence[str], kept: Path, say: Callable[[str], None] = print) -> dict[str, Seen]:
    """What is known of every file of a folder, by name; only those that are new or changed are read, in threads.

    Args:
        folder: that the names are relative to.
        names: of files, as `os.fsdecode` gives them.
        kept: the file in which it is kept from one time to the next.
        say: told how far it is, where it takes longer than some seconds.
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
                say(f"{folder}: looked at {done:,} of {len(missing):,} images, about {left:.0f} s left")
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
    buffer = io.BytesIO()
    seen = list(found.values())
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        names=np.array([os.fsencode(name) for name in found], dtype=np.bytes_),
        numbers=np.array([(s.size, s.changed, *s.sides) for s in seen], dtype=np.int64).reshape(-1, 4),
        digests=np.frombuffer(b"".join(s.digest for s in seen), dtype=np.uint8).reshape(-1, 16),
        damages=np.array([s.damage for s in seen], dtype=np.str_),
    )
    write_whole(path, buffer.getvalue())


def _read_seen(path: Path) -> dict[str, Seen]:
    """What `_write_seen` kept; nothing where there is no such file or it is damaged: it is only a saving of time."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names, numbers, digests, damages = (arrays[key] for key in ("names", "numbers", "digests", "damages"))
    except Exception:  # noqa: BLE001 - NumPy has an error of its own for each kind of damage
        return {}
    rows = zip(names.tolist(), numbers.tolist(), digests, damages.tolist(), strict=True)
    return {
        os.fsdecode(name): Seen(size, changed, (width, height), digest.tobytes(), damage)
        for name, (size, changed, width, height), digest, damage in rows
    }


# What lies in a folder, and the listing of it that `prepare` leaves


def image_names(folder: Path, without: Path | None = None) -> list[str]:
    """Names of all images below `folder`, relative to it, with / between folders, in alphabetical order.

    Hidden files and folders are passed over; links are followed, but not in circles.

    Args:
        folder: to look through.
        without: a folder that is passed over.
    """
    passed = {_identity(without)} if without is not None and without.is_dir() else set()
    return sorted(_below(str(folder), "", passed, frozenset()))


def _below(folder: str, prefix: str, passed: set[tuple[int, int]], above: frozenset[tuple[int, int]]) -> Iterator[str]:
    here = _identity(Path(folder))
    if here in passed or here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = f"{prefix}{entry.name}"
            if entry.is_dir():
                yield from _below(entry.path, f"{name}/", passed, above | {here})
            elif Path(entry.name).suffix.lower() in SUFFIXES and (entry.is_file() or entry.is_symlink()):
                yield name


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


@dataclass(frozen=True)
class Listing:
    """The whole images of a folder, in order of their paths."""

    paths: np.ndarray  # bytes [N], names as the file system has them, relative to the folder of their part
    sides: np.ndarray  # int32 [N, 2]: width and height of the upright image, in pixels
    digests: np.ndarray  # uint8 [N, 16]: BLAKE2b of each file's content
    labels: np.ndarray  # int64 [N]: the class, or UNKNOWN
    named: np.ndarray  # bool [N]: whether `data.labelled` names it
    class_names: np.ndarray  # text [K], in alphabetical order

    def files(self, folder: Path, size: int, views: CropViews) -> ImageFiles:
        """Its images, to be read from the folder of their part."""
        return ImageFiles(folder, self.paths, self.sides, self.digests, size, views)


def read_listing(root: str, path: Path) -> Listing:
    """The listing that `prepare` made of `root`.

    Raises:
        ValueError: when there is none, or it is damaged.
    """
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
