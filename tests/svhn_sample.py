"""Real SVHN digits in files like the published ones, made from a sample of them where that is at hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image

from repro.data import svhn_files, svhn_held_out
from repro.data.part import md5_of
from repro.data.svhn_files import EXTRA, TEST, TRAIN

SAMPLE = Path(__file__).parents[2] / "shared/data/svhn_sample"


@dataclass(frozen=True)
class Sample:
    """A folder with stand-ins for the three published files, and what is in them, by name."""

    root: Path
    images: dict[str, np.ndarray]  # uint8 [N, 32, 32, 3]
    labels: dict[str, np.ndarray]  # int64 [N], 0 to 9
    md5: dict[str, str] = field(default_factory=dict)

    def stand_in(self, patch: pytest.MonkeyPatch) -> None:
        """Has them taken for the published ones."""
        for name, images in self.images.items():
            path = self.root / name
            patch.setitem(svhn_files.MD5, name, self.md5[name])
            patch.setitem(svhn_files.SIZE, name, path.stat().st_size)
            patch.setitem(svhn_files.IMAGES, name, len(images))
        svhn_held_out._load.cache_clear()


def write_mat(path: Path, images: np.ndarray, labels: np.ndarray, **how: Any) -> None:
    """A file as the published ones: X uint8 [32, 32, 3, N], y uint8 [N, 1], 10 for digit 0; compressed unless told."""
    classes = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
    scipy.io.savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": classes}, **{"do_compression": True} | how)


def tiles(name: str, count: int) -> np.ndarray:
    """The first `count` images of a mosaic, uint8 [count, 32, 32, 3]."""
    mosaic = np.asarray(Image.open(SAMPLE / name))
    rows, columns = mosaic.shape[0] // 32, mosaic.shape[1] // 32
    return mosaic.reshape(rows, 32, columns, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)[:count]


def made_of(images: dict[str, np.ndarray], labels: dict[str, np.ndarray], root: Path) -> Sample:
    """Writes the stand-ins."""
    for name, pixels in images.items():
        write_mat(root / name, pixels, labels[name])
    return Sample(root, images, labels, {name: md5_of(root / name) for name in images})


def real(root: Path) -> Sample:
    """1,083 real images of `train`; of `test`, 1,000 stand in for it and 2,000 for `extra`."""
    labels = {key: value.astype(np.int64) for key, value in np.load(SAMPLE / "labels.npz").items()}
    more = np.concatenate([tiles(f"test_{k}.webp", 1000) for k in range(3)])
    return made_of(
        {TRAIN: tiles("train_0.webp", 1083), EXTRA: more[1000:], TEST: more[:1000]},
        {TRAIN: labels["train"], EXTRA: labels["test"][1000:3000], TEST: labels["test"][:1000]},
        root,
    )


def noise(root: Path, train: int = 60, extra: int = 90, test: int = 30) -> Sample:
    """Images of random pixels with labels in turn: they stand where no real ones are at hand."""
    generator, counts = np.random.default_rng(0), {TRAIN: train, EXTRA: extra, TEST: test}
    images = {name: generator.integers(0, 256, (n, 32, 32, 3), np.uint8) for name, n in counts.items()}
    return made_of(images, {name: np.arange(n) % 10 for name, n in counts.items()}, root)
