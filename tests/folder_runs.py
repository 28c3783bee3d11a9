"""Trained runs on small folders of images, that tests of evaluation and of records share."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from repro.config import Config, read_config
from repro.train.checkpoint import Result
from repro.train.loop import Trainer
from tests.folders import prepared, write_image
from tests.tiny import CPU, METHODS, left_by

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
