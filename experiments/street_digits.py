"""Writes the images of the plan `replication`: digits in the street, from SVHN's test file, into class folders.

    python experiments/street_digits.py [DATASETS]

DATASETS (default: datasets) holds test_32x32.mat, which torchvision downloads where it is missing. The first 7,000
images go to street-digits/train/<digit>/<number>.bmp, the next 3,000 to test; BMP holds each pixel as it is, so all
copies are alike.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets import SVHN

TRAIN, ALL = 7_000, 10_000


def write(images: np.ndarray, labels: np.ndarray, root: Path) -> None:
    """Images uint8 [N, 3, 32, 32] and their digits, in the order of SVHN's file; N is at least `ALL`."""
    for number, (image, digit) in enumerate(zip(images[:ALL], labels[:ALL], strict=True)):
        path = root / ("train" if number < TRAIN else "test") / str(digit) / f"{number:04d}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else "datasets")
    published = SVHN(place, "test", download=True)
    write(published.data, published.labels, place / "street-digits")
