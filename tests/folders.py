"""Folders of small images that tests make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from repro.data import FolderData, source_of
from repro.data.folder import folder_of, listing_path
from repro.data.images import ImageFiles, Listing, read_listing


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth picture with a gradient, a disc and some noise, so that shifts, flips and turns are seen."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    channels = [255 * x / width, 255 * y / height, 200 * ((x - width / 3) ** 2 + (y - height / 3) ** 2 < 60)]
    noise = draw.normal(0, 8, (height, width, 3))
    return Image.fromarray((np.stack(channels, axis=-1) + noise).clip(0, 255).astype(np.uint8))


def write_image(path: Path, width: int = 24, height: int = 20, seed: int = 0, **how: Any) -> Path:
    """An image file of the format that its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(width, height, seed).save(path, **how)
    return path


def write_folder(root: Path, counts: dict[str, int], suffix: str = "jpg") -> Path:
    """Images `<class>/<number>.<suffix>` of several sizes, each with another content."""
    for label, count in counts.items():
        for number in range(count):
            seed = len(label) * 1000 + number
            write_image(root / label / f"{label[:1]}{number}.{suffix}", 20 + number % 7, 18 + number % 5, seed)
    return root


def pictures(root: Path, places: str, count: int = 2) -> Path:
    """Images in each of these folders, no two alike."""
    for number, place in enumerate(places.split()):
        for image in range(count):
            write_image(root / place.replace("+", " ") / f"{image}.png", 12, 10, 100 * number + image)
    return root


def prepared(root: Path, **settings: Any) -> FolderData:
    """The settings of a folder after `prepare`, in the working directory."""
    config = FolderData(root=str(root), **settings)
    source_of(config).prepare()
    return source_of(config).settled()


def listed(config: FolderData, part: str = "train") -> Listing:
    """What `prepare` found."""
    return read_listing(config.root, listing_path(config, part))


def files_of(config: FolderData) -> ImageFiles:
    """Its training images."""
    return listed(config).files(folder_of(config, "train"), config.image_size, config.views)
