"""SVHN's cropped digits (Netzer et al. 2011): its files as published, how they are split, and its 26,032 test images.

torchvision reads the files, and only with their published MD5: `prepare` looks at all of them, a process that trains or
evaluates at those that it opens. They stay where they are; `artifacts/data/svhn` has links to them. `train` and `extra`
are 1.9 GB of images in each process that trains on both, and a copy of those that are unlabelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from repro.data import SvhnData
from repro.data.sets import PLACE, PREPARE, SmallImages, as_bytes, balanced, download, require_published
from repro.files import link_to

TRAIN, EXTRA, TEST = "train_32x32.mat", "extra_32x32.mat", "test_32x32.mat"
URL = "http://ufldl.stanford.edu/housenumbers"
MD5 = {
    TRAIN: "e26dedcc434d2e4c54c9b2d4a06d8373",
    EXTRA: "a93ce644f1a588dc4d68dda5feec44a7",
    TEST: "eb5a983be6a315427106f1b164d9cef3",
}
"""Of the published files, as in torchvision, which a test compares; hashes of data are made of them."""
IMAGES = {TRAIN: 73_257, EXTRA: 531_131, TEST: 26_032}


class Svhn(SmallImages[SvhnData]):
    """32x32 pixels, 10 classes; class k is digit k. The training images are those of `train`, then of `extra`."""

    mean, deviation = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)  # customary; neither source has any
    ships_labels = False

    @property
    def files(self) -> tuple[str, ...]:
        """That the training images come from: `extra` only where `train` is not enough."""
        return (TRAIN,) if self.config.train_images <= IMAGES[TRAIN] else (TRAIN, EXTRA)

    @property
    def key(self) -> tuple[str, ...]:
        """With `extra` there is more to prepare."""
        return (self.config.name, *self.files)

    @property
    def pins(self) -> tuple[str, ...]:
        """The files' MD5s."""
        return tuple(MD5[name] for name in self.files)

    def prepare(self) -> None:
        """Sees that the published files are under `data.root`, downloading those that are not there."""
        for name in (*self.files, TEST):
            path, link = self.root / name, PLACE / "svhn" / name
            if link.is_file() and not path.is_file():
                path = link  # as it was prepared from elsewhere
            if not path.exists():
                remedy = f"put it there, or set data.root to the folder that holds {', '.join(MD5)}"
                download(f"{URL}/{name}", path, MD5[name], remedy)
            require_published(path, MD5[name], "delete it to download it anew")
            link_to(path, link)

    def read(self, part: str) -> tuple[Tensor, Tensor]:
        """The images of `train`, then of `extra` where they are wanted."""
        return _read((PLACE / "svhn").resolve(), self.files if part == "train" else (TEST,))

    def split(self, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """The unlabelled ones in the order of the files, but the last ones stand where labelled ones were taken out."""
        config = self.config
        count, first = config.train_images, min(config.train_images, IMAGES[TRAIN])
        labelled = torch.arange(config.labels)
        if config.balanced:
            labelled = balanced(labels[:first], config.labels, self.classes, seed)
        everything = torch.arange(count)
        if config.labelled_in_unlabelled:
            return labelled, everything
        free = ~torch.isin(everything, labelled)
        unlabelled, rest = everything[: count - len(labelled)], everything[count - len(labelled) :]
        taken = ~free[: len(unlabelled)]
        return labelled, unlabelled.masked_scatter(taken, rest[free[len(unlabelled) :]])

    def held_out_evidence(self, seed: int) -> Sequence[Tensor]:
        """The published file's MD5, and how many images are taken."""
        return as_bytes(MD5[TEST]), torch.tensor(self.config.test_images)


@lru_cache(maxsize=2)
def _read(folder: Path, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """All images of these files, one after another, uint8 [N, 3, 32, 32], and labels, int64 [N]."""
    from torchvision.datasets import SVHN

    found = []
    for name in names:
        try:
            found.append(SVHN(folder, name.partition("_")[0]))
        except RuntimeError:
            require_published(folder / name, MD5[name], PREPARE)
            raise
    images, labels = ([torch.from_numpy(getattr(one, part)) for one in found] for part in ("data", "labels"))
    return torch.cat(images).contiguous(), torch.cat(labels)
