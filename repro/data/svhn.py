"""SVHN's cropped digits (Netzer et al. 2011): its files as published, how they are split, and its 26,032 test images.

torchvision reads the MATLAB files, and only with their published MD5. `prepare` unpacks `train`, and `extra` where more
images are asked for, into one array (1.9 GB for both), which every process maps: it holds none of its own but the
images that it moves. While `extra` is unpacked, its 1.6 GB are in memory two or three times.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from repro.data import SvhnData
from repro.data.sets import (
    PLACE,
    PREPARE,
    HeldOutSet,
    Seeds,
    SmallImages,
    TrainingSet,
    as_bytes,
    balanced,
    require_published,
)
from repro.files import link_to, partly, readable_json, replace_folder, write_whole

TRAIN, EXTRA, TEST = "train_32x32.mat", "extra_32x32.mat", "test_32x32.mat"
URL = "http://ufldl.stanford.edu/housenumbers"
MD5 = {
    TRAIN: "e26dedcc434d2e4c54c9b2d4a06d8373",
    EXTRA: "a93ce644f1a588dc4d68dda5feec44a7",
    TEST: "eb5a983be6a315427106f1b164d9cef3",
}
"""Of the published files, as in torchvision, which a test compares; hashes of data are made of them."""
IMAGES = {TRAIN: 73_257, EXTRA: 531_131, TEST: 26_032}
ARRAYS = ("images.npy", "labels.npy")
ANEW = "delete it to download it anew"


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

    def prepare(self) -> None:
        """Unpacks the training files and points to the test file, which nothing looks into before evaluation does.

        Arrays appear together or not at all; where they are whole, nothing is done.

        Raises:
            ValueError: when a file cannot be had or is not the published one.
        """
        folder = PLACE / "svhn"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two at once would write into one folder
            try:
                require_published(folder / TEST, MD5[TEST], ANEW)
            except ValueError:
                self._obtain(TEST)
                require_published(self.root / TEST, MD5[TEST], ANEW)
                link_to(self.root / TEST, folder / TEST)
            arrays = folder / "training"
            hashes = _hashes(arrays, self.files)
            if not hashes or any(not (arrays / n).is_file() or _sha256(arrays / n) != h for n, h in hashes.items()):
                for name in self.files:
                    self._obtain(name)
                _unpack(self.root, arrays, self.files)

    def _obtain(self, name: str) -> None:
        """Sees that a published file lies in `data.root`, downloading it where it is not there."""
        from torchvision.datasets.utils import download_url

        path = self.root / name
        try:
            if not path.exists():
                print(f"data.root = {self.root} has no {name}; it is downloaded there", flush=True)
                download_url(f"{URL}/{name}", str(self.root), name, MD5[name])
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"data.root = {self.root}: SVHN's {name} is not to be had ({URL}/{name}: {error}); put it there, "
                f"or set data.root to the folder that holds {', '.join(MD5)}"
            ) from error

    def training_set(self, seeds: int) -> TrainingSet:
        """The labelled and unlabelled images; only a balanced split depends on the seed.

        The unlabelled images, up to 1.85 GB, stay a memory map of the prepared file. They come in its order, but that
        the last ones stand where labelled ones were taken out: so a process has its own copy of those few alone.
        """
        images, labels = self._load()
        labelled, unlabelled = self.split(labels, seeds)
        mine = images[labelled]  # before others take their places
        moved = (unlabelled != torch.arange(len(unlabelled))).nonzero().flatten()
        images[moved] = images[unlabelled[moved]]
        return TrainingSet(mine, labels[labelled], images[: len(unlabelled)], labels[unlabelled], labelled, unlabelled)

    def evidence(self, seed: int) -> Sequence[Tensor]:
        """The MD5s of the published files, and which images are labelled and unlabelled.

        The labels are needed for a balanced split alone; the files are checked when they are unpacked.
        """
        labels = self._load()[1] if self.config.balanced else torch.empty(0)
        return as_bytes(*(MD5[name] for name in self.files)), *self.split(labels, seed)

    def split(self, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Indices of labelled and of unlabelled images, int64 [B] and [U]; see `training_set` for their order."""
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

    def held_out_set(self, seeds: Seeds) -> HeldOutSet:
        """The first `test_images` test images and their labels.

        Raises:
            ValueError: when the file is missing or not the published one.
        """
        images, labels = _read_test((PLACE / "svhn").resolve())
        count = self.config.test_images
        return HeldOutSet(images[:count].clone(), labels[:count].clone())

    def held_out_evidence(self, seed: int) -> Sequence[Tensor]:
        """The published file's MD5, and how many images are taken."""
        return as_bytes(MD5[TEST]), torch.tensor(self.config.test_images)

    def _load(self) -> tuple[Tensor, Tensor]:
        """The first `train_images` images, uint8 [N, 3, 32, 32], mapped into memory, and labels, int64 [N].

        Each call maps the images anew: a page that is written to becomes this process's own, and the file stays as it
        is. The labels' hash is looked at again; the images' is by `prepare` alone.

        Raises:
            ValueError: when they are not prepared, or changed since.
        """
        place, count = PLACE / "svhn/training", self.config.train_images
        hashes = _hashes(place, self.files)
        if not hashes:
            raise ValueError(f"{place} does not hold the published {' and '.join(self.files)}; {PREPARE}")
        try:
            whole = _sha256(place / "labels.npy") == hashes["labels.npy"]
            images, labels = np.load(place / "images.npy", mmap_mode="c"), np.load(place / "labels.npy")
        except (OSError, ValueError):
            whole = False
        if not whole or images.shape != (len(labels), 3, 32, 32):
            raise ValueError(f"{place} is damaged: its files are not as they were unpacked; {PREPARE}")
        return torch.from_numpy(images[:count]), torch.from_numpy(labels[:count].astype(np.int64))


def _unpack(root: Path, place: Path, names: Sequence[str]) -> None:
    """Published files, one after another, as one array of images and one of labels."""
    print(f"svhn: unpacking {' and '.join(names)} into {place}", flush=True)
    fresh = partly(place)
    try:
        fresh.mkdir(parents=True)
        contents = [_read_mat(root, name, ANEW) for name in names]
        for array, parts in zip(ARRAYS, zip(*contents, strict=True), strict=True):
            np.save(fresh / array, np.concatenate(parts))
        hashes = {array: _sha256(fresh / array) for array in ARRAYS}
        described = {"files": {name: MD5[name] for name in names}, "sha256": hashes}
        write_whole(fresh / "contents.json", readable_json(described).encode())
        replace_folder(fresh, place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _read_mat(root: Path, name: str, remedy: str) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 [N, 3, 32, 32], not contiguous, and labels, int64 [N], of a published file."""
    from torchvision.datasets import SVHN

    try:
        found = SVHN(root, name.partition("_")[0])
    except RuntimeError:
        require_published(root / name, MD5[name], remedy)
        raise
    return found.data, found.labels


@lru_cache(maxsize=1)
def _read_test(folder: Path) -> tuple[Tensor, Tensor]:
    """All 80 MB of test images and the labels; read once in a process."""
    images, labels = _read_mat(folder, TEST, PREPARE)
    return torch.from_numpy(images).contiguous(), torch.from_numpy(labels)


def _hashes(place: Path, names: Sequence[str]) -> dict[str, str]:
    """SHA-256 of the arrays that hold these published files, and perhaps more of them; empty where they do not."""
    try:
        contents = json.loads((place / "contents.json").read_text())
        files, hashes = list(contents["files"].items()), {name: contents["sha256"][name] for name in ARRAYS}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return hashes if files[: len(names)] == [(name, MD5[name]) for name in names] else {}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
