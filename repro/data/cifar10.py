"""CIFAR-10 (Krizhevsky 2009): its files as published, how they are split, and its 10,000 test images.

torchvision reads the files, and only with their published MD5: `prepare` looks at all of them, a process that trains or
evaluates at those that it opens (0.3 s). They stay where they are; `artifacts/data/cifar10` is a link to their folder.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from repro.data import Cifar10Data
from repro.data.sets import PLACE, PREPARE, SmallImages, as_bytes, balanced, download, fingerprint, require_published
from repro.files import link_to

BATCHES = "cifar-10-batches-py"
"""The folder that the published archive holds."""

SHA256 = "6c49b531d8e0756213cfb6f00def58ec43513816b2b4c8cf37443f5f9b195b87"
"""`fingerprint(images, labels)` of the published training images."""
TEST_MD5 = "40351d587109b95175f43aff81a1287e"
"""Of the published test file."""

LABELS_FILE = Path(__file__).with_name("cifar10_test_labels.txt")
"""One digit for each test image, in the order of the published file; line breaks mean nothing. Shipped, so that
accuracies can be recomputed from recorded predictions without the images."""
LABELS_SHA256 = "348fd210099f44280c59f8bae2951dcb3acf9a65679aedccf26570e90be04379"
"""`fingerprint` of the labels as int64 [10000]."""


class Cifar10(SmallImages[Cifar10Data]):
    """50,000 training and 10,000 test images of 32x32 pixels, 10 classes."""

    mean, deviation = (0.491400, 0.482158, 0.4465309), (0.247032, 0.243485, 0.26159)  # (released code)
    pins = (SHA256,)

    def prepare(self) -> None:
        """Sees that the published files are under `data.root`, downloading them where there are none."""
        link = PLACE / "cifar10"
        root = link if not (self.root / BATCHES).is_dir() and (link / BATCHES).is_dir() else self.root
        if root.name == BATCHES:
            raise ValueError(f"data.root = {root}: wants the folder that holds {BATCHES}; set it to {root.parent}")
        if not (root / BATCHES).is_dir():
            _unpack(root)
        for path, md5 in [*_files(root, "train"), *_files(root, "test")]:
            require_published(path, md5, f"put it there, or delete {root / BATCHES} to download CIFAR-10 anew")
        link_to(root, link)

    def split(self, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """The unlabelled ones in the order of the files."""
        config = self.config
        pool = torch.arange(config.dropped, config.train_images)
        if config.balanced:
            labelled = balanced(labels[: config.train_images], config.labels, self.classes, seed)
        else:
            labelled = pool[: config.labels]
        return labelled, pool if config.labelled_in_unlabelled else pool[~torch.isin(pool, labelled)]

    def held_out_labels(self, seeds: Sequence[int]) -> Tensor:
        """The shipped ones, which need no images."""
        return shipped_labels()[: self.config.test_images].repeat(len(seeds), 1)

    def held_out_evidence(self, seed: int) -> Sequence[Tensor]:
        """The published file's MD5 and the labels."""
        return as_bytes(TEST_MD5), shipped_labels()[: self.config.test_images].clone()

    def read(self, part: str) -> tuple[Tensor, Tensor]:
        """Test labels are the shipped ones, or are refused."""
        prepared = PLACE / "cifar10"
        images, labels = _read((prepared if (prepared / BATCHES).is_dir() else self.root).resolve(), part)
        if part == "test" and not torch.equal(labels, shipped_labels()[: len(labels)]):
            raise ValueError(f"labels of CIFAR-10's test file are not those of {LABELS_FILE}; restore both")
        return images, labels


@lru_cache(maxsize=2)
def _read(root: Path, part: str) -> tuple[Tensor, Tensor]:
    """All images of "train" or "test", uint8 [N, 3, 32, 32], and labels, int64 [N]; the other part is not opened."""
    from torchvision.datasets import CIFAR10

    alone = type("Part", (CIFAR10,), {"test_list" if part == "train" else "train_list": []})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's, of how the published pickles name their types
            found = alone(root, train=part == "train")
    except RuntimeError:
        for path, md5 in _files(root, part):
            require_published(path, md5, PREPARE)
        raise
    return torch.from_numpy(np.ascontiguousarray(found.data.transpose(0, 3, 1, 2))), torch.tensor(found.targets)


def _files(root: Path, part: str) -> Iterator[tuple[Path, str]]:
    """What is read of "train" or "test", and the published MD5s."""
    from torchvision.datasets import CIFAR10

    found = CIFAR10.train_list if part == "train" else CIFAR10.test_list
    for name, md5 in [*found, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]:
        yield root / BATCHES / name, md5


def _unpack(root: Path) -> None:
    """Unpacks the published archive in `root`, or a download of it, whole or not at all."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import extract_archive

    download(CIFAR10.url, root / CIFAR10.filename, CIFAR10.tgz_md5, f"put that or the folder {BATCHES} there, or set "
             f"data.root to the folder that holds {BATCHES}")  # fmt: skip
    with tempfile.TemporaryDirectory(dir=root, prefix=".partly-") as fresh:
        extract_archive(str(root / CIFAR10.filename), fresh)
        (Path(fresh) / BATCHES).rename(root / BATCHES)


@cache
def shipped_labels() -> Tensor:
    """All test labels, int64 [10000]; refused when the file is missing or not the one that was shipped."""
    remedy = f"restore it: git checkout -- {LABELS_FILE}"
    if not LABELS_FILE.is_file():
        raise ValueError(f"{LABELS_FILE} is missing; {remedy}")
    found = torch.tensor([digit - ord("0") for digit in b"".join(LABELS_FILE.read_bytes().split())])
    if fingerprint(found) != LABELS_SHA256:
        raise ValueError(f"{LABELS_FILE} is damaged (hash differs); {remedy}")
    return found
