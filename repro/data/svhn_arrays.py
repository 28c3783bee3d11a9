"""SVHN's training images as arrays on the disk: unpacked once by `prepare`, and one copy for all that train.

604,388 images are 1.86 GB, on the disk and, where memory is free, in the system's cache of files; a process that maps
them holds none of its own but those that it changes.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repro.data.part import open_part
from repro.data.svhn_files import IMAGES, MD5, obtain
from repro.data.svhn_mat import read_mat
from repro.files import partly, readable_json, replace_folder, write_whole

TRAINING = "training"
"""The folder of the arrays, below artifacts/data/svhn."""

_PIXELS, _LABELS, _CONTENTS = "images.npy", "labels.npy", "contents.json"
_REMEDY = "prepare it again: python -m repro.cli.prepare"


def place_training(root: Path, folder: Path, names: Sequence[str]) -> None:
    """Unpacks published training files, one after another, into one array of images and one of labels.

    They appear together or not at all. Nothing is done where an unpacking that begins with these files is whole, which
    is seen by the hashes of all it holds: half a minute to unpack, seconds to look at.

    Raises:
        ValueError: when a file cannot be had or is not the published one, or when another process is at it.
        OSError: when `folder` cannot be written.
    """
    place = folder / TRAINING
    if _is_whole(place, names):
        return
    obtain(root, names)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"svhn: unpacking {' and '.join(names)} into {place} "
          f"({math.prod(_shape(names)) / 1e9:.2f} GB)", flush=True)  # fmt: skip
    with open_part(folder / f"{TRAINING}.part") as mine:  # two at once would write into one folder
        fresh = partly(place)
        try:
            _unpack(root, fresh, names)
            replace_folder(fresh, place)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            mine.discard()


def open_training(folder: Path, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Images, uint8 [N, 3, 32, 32], mapped into memory, and labels, int64 [N], of files that `prepare` has unpacked.

    The tensor of images may be written to: a page that is changed becomes this process's own, and the file stays as it
    is. Sizes, and the labels' hash, are looked at again; the images' hash is by `prepare` alone.

    Raises:
        ValueError: when they are missing, are not these files', or changed since; naming the remedy.
    """
    place = folder / TRAINING
    contents = _contents(place)
    if not _begins_with(contents, names):
        raise ValueError(f"{place} does not hold the published {' and '.join(names)}; {_REMEDY}")
    pixels, labels, shape = place / _PIXELS, place / _LABELS, _shape(contents["files"])
    content = labels.read_bytes() if labels.is_file() else b""
    start = len(_header(shape))
    size = pixels.stat().st_size if pixels.is_file() else 0
    if _sha256(content) != contents["sha256"][_LABELS] or size != start + math.prod(shape):
        raise ValueError(f"{place} is damaged: its files are not as they were unpacked; {_REMEDY}")
    images = np.memmap(pixels, np.uint8, "c", start, shape)  # c: torch makes no tensor of a read-only map
    classes = np.load(io.BytesIO(content)).astype(np.int64)
    count = _shape(names)[0]
    return torch.from_numpy(images[:count]), torch.from_numpy(classes[:count])


def _unpack(root: Path, fresh: Path, names: Sequence[str]) -> None:
    fresh.mkdir(parents=True)
    shape, digest, labels = _shape(names), hashlib.sha256(), list[np.ndarray]()
    with open_part(fresh / f"{_PIXELS}.part") as part:

        def append(content: bytes) -> None:
            digest.update(content)
            part.append(content)

        append(_header(shape))
        for name in names:
            labels += [read_mat(root / name, IMAGES[name], lambda images: append(images.tobytes()))]
        part.become(fresh / _PIXELS)
    content = _header(shape[:1]) + np.concatenate(labels).astype(np.uint8).tobytes()
    write_whole(fresh / _LABELS, content)
    contents = {
        "files": {name: MD5[name] for name in names},
        "sha256": {_PIXELS: digest.hexdigest(), _LABELS: _sha256(content)},
    }
    write_whole(fresh / _CONTENTS, readable_json(contents).encode())


def _shape(names: Iterable[str]) -> tuple[int, int, int, int]:
    """Of the images of published files, one after another."""
    return sum(IMAGES[name] for name in names), 3, 32, 32


def _header(shape: tuple[int, ...]) -> bytes:
    """Of an uint8 array in numpy's format."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _contents(place: Path) -> dict[str, Any]:
    """What is in the arrays; empty where that is not known."""
    try:
        contents = json.loads((place / _CONTENTS).read_text())
        contents["sha256"][_PIXELS], contents["sha256"][_LABELS], _shape(contents["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return contents  # type: ignore[no-any-return]


def _begins_with(contents: dict[str, Any], names: Sequence[str]) -> bool:
    files = list(contents.get("files", {}).items())
    return files[: len(names)] == [(name, MD5[name]) for name in names]


def _is_whole(place: Path, names: Sequence[str]) -> bool:
    contents = _contents(place)
    if not _begins_with(contents, names):
        return False
    paths = [place / name for name in (_PIXELS, _LABELS)]
    return all(path.is_file() and _sha256_of(path) == contents["sha256"][path.name] for path in paths)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
