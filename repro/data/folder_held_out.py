"""The test images of a folder. Only `repro.data.held_out` imports this module; a test holds that."""

from __future__ import annotations

import torch
from torch import Tensor

from repro.config.data import FolderData
from repro.data.listing import Listing, read_listing
from repro.data.sets import HeldOutSet


def held_out_set(config: FolderData) -> HeldOutSet:
    """All test images and their labels; none where `data.test` is empty.

    Raises:
        ValueError: when the folder is not prepared.
    """
    listing = _listing(config)
    return HeldOutSet(listing.files(config, "test"), torch.from_numpy(listing.labels))


def evidence(config: FolderData) -> tuple[Tensor, Tensor]:
    """What pins the test set: the hashes of the files' contents, and the labels."""
    listing = _listing(config)
    return torch.from_numpy(listing.digests), torch.from_numpy(listing.labels)


def _listing(config: FolderData) -> Listing:
    if config.test:
        return read_listing(config, "test")
    listing = read_listing(config, "train")
    nothing = {name: getattr(listing, name)[:0] for name in ("paths", "sides", "digests", "labels", "named")}
    return Listing(**nothing, class_names=listing.class_names)
