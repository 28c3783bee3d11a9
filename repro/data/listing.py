"""What `prepare` found in a folder of images: names, sides, contents' hashes, classes. Read instead of the folder."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from repro.config.data import FolderData
from repro.data.image_files import ImageFiles
from repro.files import write_whole

PLACE = Path("artifacts/data/folder")
"""Where listings are kept; `prepare` fills it."""

UNKNOWN = -1
"""The class of an image of which none is known."""


@dataclass(frozen=True)
class Listing:
    """The whole images of a folder, in order of their paths."""

    paths: np.ndarray  # bytes [N], names as the file system has them, relative to the folder of their part
    sides: np.ndarray  # int32 [N, 2]: width and height of the upright image, in pixels
    digests: np.ndarray  # uint8 [N, 16]: BLAKE2b of each file's content
    labels: np.ndarray  # int64 [N]: the class, or UNKNOWN
    named: np.ndarray  # bool [N]: whether `data.labelled` names it
    class_names: np.ndarray  # text [K], in alphabetical order

    def files(self, config: FolderData, part: str) -> ImageFiles:
        """Its images, to be read from the folder of their part."""
        return ImageFiles(folder_of(config, part), self.paths, self.sides, self.digests, config.image_size)


def folder_of(config: FolderData, part: str) -> Path:
    """The folder of the training images, "train", or of the test images, "test"."""
    return Path(config.root).expanduser() / (config.train if part == "train" else config.test)


def listing_path(config: FolderData, part: str) -> Path:
    """The listing of one part of a folder, "train" or "test"; two roots, or two lists of labels, have two."""
    settings = (str(Path(config.root).expanduser().resolve()), config.train, config.test, config.labelled)
    key = hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
    return PLACE / f"{Path(config.root).expanduser().resolve().name}-{key}-{part}.npz"


def write_listing(config: FolderData, part: str, listing: Listing) -> None:
    """Keeps a listing, whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **vars(listing))
    write_whole(listing_path(config, part), buffer.getvalue())


def read_listing(config: FolderData, part: str) -> Listing:
    """The listing that `prepare` made.

    Raises:
        ValueError: when there is none, or it is damaged.
    """
    path = listing_path(config, part)
    remedy = f"data.root = {config.root}: prepare it: python -m repro.cli.prepare"
    if not path.is_file():
        raise ValueError(f"{path} is missing; {remedy}")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Listing(**{name: arrays[name] for name in arrays.files})
    except Exception as error:  # NumPy has an error of its own for each kind of damage
        raise ValueError(f"{path} is damaged; {remedy}") from error
