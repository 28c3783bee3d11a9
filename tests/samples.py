"""Small files like the published ones: real images that lie in `samples`, or noise where many are wanted."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from torchvision.datasets import CIFAR10, SVHN
from torchvision.datasets.utils import calculate_md5

from repro.data import cifar10 as cifar10_source
from repro.data import svhn
from repro.data.svhn import EXTRA, TEST, TRAIN

SAMPLES = Path(__file__).with_name("samples")
TINY_IMAGENET = SAMPLES / "tiny-imagenet"
"""14 training and 2 validation images of each of 3 classes of Tiny ImageNet: real JPEGs of 64x64 pixels."""
A_FILE = 14
"""Images in each of the files of CIFAR-10's sample."""


def cifar10(root: Path, patch: pytest.MonkeyPatch) -> Path:
    """Copies the first images of each of CIFAR-10's files into `root`, and has them taken for the published files."""
    shutil.copytree(SAMPLES / cifar10_source.BATCHES, root / cifar10_source.BATCHES)
    cifar10_for_published(root, patch)
    return root


def cifar10_for_published(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Has the files below `root` taken for the published ones."""
    for part in ("train_list", "test_list"):
        names = [name for name, _ in getattr(CIFAR10, part)]
        patch.setattr(CIFAR10, part, [[name, calculate_md5(root / cifar10_source.BATCHES / name)] for name in names])


def cifar10_many(root: Path) -> Path:
    """CIFAR-10's files with 6,000 training images: those of the sample, each moved and mirrored otherwise.

    The paper's split drops 5,000.
    """
    folder, generator = root / cifar10_source.BATCHES, np.random.default_rng(0)
    shutil.copytree(SAMPLES / cifar10_source.BATCHES, folder)
    parts = [pickle.loads((folder / name).read_bytes(), encoding="latin1") for name, _ in CIFAR10.train_list]  # noqa: S301
    images = np.concatenate([part["data"] for part in parts]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([part["labels"] for part in parts])
    for name, _ in CIFAR10.train_list:
        chosen = generator.integers(0, len(images), 1200)
        moved = np.stack(
            [
                np.roll(images[k], generator.integers(-8, 9, 2), (1, 2))[..., :: generator.choice((1, -1))]
                for k in chosen
            ]
        )
        content = {"data": moved.reshape(len(moved), -1), "labels": labels[chosen].tolist()}
        (folder / name).write_bytes(pickle.dumps(content))
    return root


@dataclass(frozen=True)
class Svhn:
    """A folder with stand-ins for the three published files, and what is in them, by name."""

    root: Path
    images: dict[str, np.ndarray]  # uint8 [N, 3, 32, 32]
    labels: dict[str, np.ndarray]  # int64 [N], 0 to 9

    @property
    def published(self) -> dict[str, tuple[str, int]]:
        """MD5, and number of images."""
        return {name: (calculate_md5(self.root / name), len(images)) for name, images in self.images.items()}

    def stand_in(self, patch: pytest.MonkeyPatch) -> None:
        """Has them taken for the published ones."""
        taken_for_published(self.published, patch.setitem)


def taken_for_published(files: dict[str, tuple[str, int]], put: object = dict.__setitem__) -> None:
    """Files of these MD5s and numbers of images are taken for the published ones, by torchvision and by us."""
    for name, (md5, count) in files.items():
        part = name.partition("_")[0]
        put(svhn.MD5, name, md5)  # type: ignore[operator]
        put(svhn.IMAGES, name, count)  # type: ignore[operator]
        put(SVHN.split_list, part, [SVHN.split_list[part][0], name, md5])  # type: ignore[operator]


def write_mat(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """A file as the published ones: X uint8 [32, 32, 3, N], y uint8 [N, 1], 10 for digit 0; compressed."""
    classes = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
    scipy.io.savemat(path, {"X": images.transpose(2, 3, 1, 0), "y": classes}, do_compression=True)


def svhn_noise(root: Path, train: int = 60, extra: int = 90, test: int = 30) -> Svhn:
    """Images of random pixels with labels in turn."""
    generator, counts = np.random.default_rng(0), {TRAIN: train, EXTRA: extra, TEST: test}
    images = {name: generator.integers(0, 256, (n, 3, 32, 32), np.uint8) for name, n in counts.items()}
    labels = {name: np.arange(n) % 10 for name, n in counts.items()}
    for name, pixels in images.items():
        write_mat(root / name, pixels, labels[name])
    return Svhn(root, images, labels)


def svhn_digits() -> Svhn:
    """40 real images of `train`; of `test`, 20 stand in for it and 20 for `extra`; read by SciPy."""
    files = {name: scipy.io.loadmat(SAMPLES / "svhn" / name) for name in (TRAIN, EXTRA, TEST)}
    return Svhn(
        SAMPLES / "svhn",
        {name: np.ascontiguousarray(content["X"].transpose(3, 2, 0, 1)) for name, content in files.items()},
        {name: content["y"][:, 0].astype(np.int64) % 10 for name, content in files.items()},
    )
