"""Folders of small images that tests make, and trained runs on them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from repro.config import Config, read_config
from repro.data import FolderData, source_of
from repro.data.folder import folder_of, listing_path
from repro.data.images import ImageFiles, Listing, read_listing
from repro.train.checkpoint import Result
from repro.train.loop import Trainer
from tests.tiny import CPU, METHODS, left_by


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


CLASSES, TEST_IMAGES = 12, 3


def images(root: Path, classes: int = CLASSES, without_class: int = 0, test: int = TEST_IMAGES) -> Path:
    """A folder with 3 training images and some test images of every class, and some training images of none."""
    for label in range(classes):
        for part, count in (("train", 3), ("test", test)):
            for number in range(count):
                seed = 100 * label + number + (50 if part == "test" else 0)
                write_image(root / part / f"c{label:03d}/{number}.png", 18 + number, 20, seed)
    for number in range(without_class):
        write_image(root / f"train/unlabelled/{number}.png", seed=90_000 + number)
    return root


def config_of(root: Path, method: str = "uda", labels: int = CLASSES, **budget: Any) -> Config:
    """A few steps of a small network on a prepared folder."""
    data = prepared(root, train="train", test="test", labels=labels, image_size=16)
    optimiser = {"learning_rate": 0.01}
    settings: dict[str, Any] = {
        "data": asdict(data), "model": {"name": "wide_resnet", "depth": 10, "width": 1}, "method": METHODS[method],
        "optim": {"student": optimiser, "teacher": optimiser, "average_decay": 0.9}, "finetune": {}, "recipe": {},
        "budget": {"steps": 4, "labelled_batch": 4, "unlabelled_batch": 6, "log_every": 2, "snapshots": 2} | budget,
    }  # fmt: skip
    return read_config(settings)


def trained_on(config: Config, place: Path) -> Result:
    """What a run of seed 0 leaves."""
    trainer = Trainer(config, 0, CPU)
    trainer.run(place / "state")
    return left_by(trainer)
