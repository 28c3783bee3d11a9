"""A trained classifier in one file: its weights, the names of its classes, and all that applies it to new images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repro.config.read import read_config
from repro.config.schema import Config
from repro.data import source_of
from repro.evaluate.predict import Predictor
from repro.train.storage import load, save

_AT_ONCE = 512  # images in memory


@dataclass(frozen=True)
class TrainedModel:
    """What is needed to classify images, and what is known of how well it does."""

    config: dict[str, Any]  # resolved settings of its training
    class_names: list[str]
    network: str  # which of the training's networks it is
    weights: dict[str, Tensor]  # float32
    facts: dict[str, Any]  # test images, how many are right, environment, by name


@dataclass(frozen=True)
class Score:
    """Predictions on the test images, counted."""

    right: int
    images: int
    confusion: list[list[int]]  # [K, K], rows are the true classes
    classes: np.ndarray  # uint8 or uint16 [N], predicted


def save_model(path: Path, model: TrainedModel) -> None:
    """Writes it, whole or not at all."""
    save(path, dict(vars(model)))


def load_model(path: Path) -> TrainedModel:
    """What `save_model` wrote; nothing in the file is executed.

    Raises:
        Damaged: when it is missing or not what was written.
        OtherFormat: when another version wrote it.
    """
    return TrainedModel(**load(path))


def score(config: Config, seed: int, weights: dict[str, Tensor]) -> Score | None:
    """How a network does on all test images; None where there are none."""
    source = source_of(config.data)
    test = source.held_out_set(seed)
    if not len(test.labels):
        return None
    found = Predictor(config, seed).classes(weights, test.examples)[0]
    predicted, count = torch.from_numpy(found.astype(np.int64)), source.classes
    confusion = torch.bincount(test.labels * count + predicted, minlength=count**2).reshape(count, count)
    return Score(int((predicted == test.labels).sum()), len(found), confusion.tolist(), found)


Prediction = tuple[str, str, np.ndarray | None]
"""An image's name; why it could not be read, or nothing; and the probabilities of the classes, float32 [K]."""


def predictions(model: TrainedModel, names: Sequence[str]) -> Iterator[Prediction]:
    """One for each file, in their order; what cannot be read gets its reason in place of probabilities.

    Args:
        model: the classifier.
        names: of files, absolute or relative to the working directory.
    """
    config = read_config(model.config)
    source, predictor = source_of(config.data), Predictor(config, 0)

    def read(name: str) -> Tensor | str:
        try:
            return source.read_file(Path(name))
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        ahead = pool.map(read, names[:_AT_ONCE])
        for first in range(0, len(names), _AT_ONCE):
            some, images = names[first : first + _AT_ONCE], list(ahead)
            ahead = pool.map(read, names[first + _AT_ONCE : first + 2 * _AT_ONCE])  # while the network is at work
            whole = [image for image in images if not isinstance(image, str)]
            rows = iter(_probabilities(predictor, model.weights, whole))
            for name, image in zip(some, images, strict=True):
                yield (name, image, None) if isinstance(image, str) else (name, "", next(rows))


def _probabilities(predictor: Predictor, weights: dict[str, Tensor], images: Sequence[Tensor]) -> np.ndarray:
    """Float32 [N, K] of uint8 images [3, size, size]."""
    if not images:
        return np.empty((0, 0), dtype=np.float32)
    found: np.ndarray = predictor.probabilities(weights, torch.stack(list(images))).numpy()
    return found
