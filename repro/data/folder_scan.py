"""Which images lie in a folder, and of which class their own folder says they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
"""Of image files, in small letters."""

WITHOUT_CLASS = frozenset({"unlabelled", "unlabeled"})
"""Folders whose images have no class."""

PARTS = frozenset({"train", "test", "val", "valid", "validation"})
"""Folders that part a data set, and are hardly anybody's classes."""


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


def class_of(name: str) -> str:
    """The class that an image's folder gives it: the first part of its name; empty where it has none."""
    first, within, _ = name.partition("/")
    return first if within and first.lower() not in WITHOUT_CLASS else ""
