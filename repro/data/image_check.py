"""A look at every image file before training: is it whole, how large is it, and what is the hash of its content."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from repro.data.image_modes import SMALLEST, as_rgb, in_words, too_small, turned, upright
from repro.files import write_whole

_WRITE_EVERY = 60.0  # seconds after which what was looked at is kept, so that a kill costs no more
_SAY_EVERY = 5.0
_AT_ONCE = 256  # files handed to the threads between two looks at the clock


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
            sides = _sides(image)
        damage = "" if min(sides) >= SMALLEST else too_small(sides)
    except Exception as error:  # noqa: BLE001 - Pillow has an error of its own for each kind of damage
        sides, damage = (0, 0), in_words(error, path)
    digest = hashlib.blake2b(content, digest_size=16).digest()
    return Seen(size, changed, (0, 0) if damage else sides, digest, damage)


def _sides(image: Image.Image) -> tuple[int, int]:
    """Width and height of the upright image, all of which is decoded on the way."""
    if image.format not in {"JPEG", "MPO"}:
        as_rgb(upright(image))
        return image.size
    width, height = image.size
    swapped = turned(image)
    image.draft(None, (1, 1))
    as_rgb(upright(image))
    return (height, width) if swapped else (width, height)


def look_at_all(folder: Path, names: Sequence[str], kept: Path, say: Callable[[str], None] = print) -> dict[str, Seen]:
    """What is known of every file of a folder, by name; only those that are new or changed are read, in threads.

    Args:
        folder: that the names are relative to.
        names: of files, as `os.fsdecode` gives them.
        kept: the file in which it is kept from one time to the next.
        say: told how far it is, where it takes longer than some seconds.
    """
    before = _read(kept)
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
                _write(kept, found)
    if missing or before.keys() != found.keys():
        _write(kept, found)
    return found


def _unchanged(path: Path, seen: Seen) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (seen.size, seen.changed)


def _write(path: Path, found: Mapping[str, Seen]) -> None:
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


def _read(path: Path) -> dict[str, Seen]:
    """What `_write` kept; nothing where there is no such file or it is damaged: it is only a saving of time."""
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
