"""A trained classifier in one file, with all that applies it to new images."""

from __future__ import annotations

import argparse
import contextlib
import csv
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
import torch
from torch import Tensor

from repro.config import Config, read_config
from repro.data import FolderData, source_of
from repro.data.images import Levels, read_image
from repro.data.layout import look_through, printable
from repro.engine.device import free_processors, set_up_process
from repro.evaluate.predict import Predictor
from repro.train.storage import Damaged, OtherFormat, load, save

_AT_ONCE = 512  # images in memory


@dataclass(frozen=True)
class TrainedModel:
    """What is needed to classify images, and what is known of how well it does."""

    config: dict[str, Any]  # resolved settings of its training
    class_names: list[str]
    network: str  # which of the training's networks it is
    weights: dict[str, Tensor]  # float32
    facts: dict[str, Any]  # test images, how many are right, environment, by name
    levels: Levels | None = None  # the scale of its training images of more than 8 bits


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


def read_file(path: Path, data: FolderData, levels: Levels | None) -> Tensor:
    """An image as evaluation sees it, uint8 [3, size, size].

    Raises:
        ValueError: naming what is wrong, in a few words without the path, when it is no whole image.
    """
    pixels = read_image(path, data.image_size, data.views.evaluated_share, levels)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


Prediction = tuple[str, str, np.ndarray | None]
"""An image's name; why it could not be read, or nothing; and the probabilities of the classes, float32 [K]."""


def predictions(model: TrainedModel, names: Sequence[str]) -> Iterator[Prediction]:
    """One for each file, in their order; what cannot be read gets its reason in place of probabilities.

    Args:
        model: the classifier.
        names: of files, absolute or relative to the working directory.
    """
    config = read_config(model.config)
    data, predictor = cast(FolderData, config.data), Predictor(config, 0)

    def read(name: str) -> Tensor | str:
        try:
            return read_file(Path(name), data, model.levels)
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


MODEL = "model.pt"
"""What fit leaves in a model's folder."""

_NAMED = 10  # unreadable images on the screen
_SAY_EVERY = 5.0  # seconds


def predict(arguments: argparse.Namespace) -> None:
    """Predicts, writes, counts."""
    set_up_process(free_processors())
    if arguments.csv and (arguments.csv.is_dir() or not arguments.csv.name):
        raise ValueError(f"--csv = {arguments.csv}: is a folder; name the file to write")
    model, names = opened(arguments.model), _names(arguments.images)
    counts: Counter[str] = Counter()
    begun = time.monotonic()
    with _output(arguments.csv) as file:
        _write(file, model, names, counts, arguments.probabilities)
    seconds = time.monotonic() - begun
    parts = [f"{name} {counts[name]:,}" for name in model.class_names if counts[name]]
    print(f"{len(names):,} images in {seconds:.0f} s: {', '.join(parts) or 'none could be read'}", file=sys.stderr)
    if counts[""]:
        print(f"{counts['']:,} could not be read: an empty class in the CSV", file=sys.stderr)


def opened(folder: Path) -> TrainedModel:
    """The model of a folder, or in a file.

    Raises:
        ValueError: when it is not there, unfinished, or damaged.
    """
    path = folder / MODEL if folder.is_dir() else folder
    if not path.is_file():
        begun = " yet: run the fit again to go on" if (folder / "settings.yaml").is_file() else ""
        raise ValueError(
            f"{folder} holds no trained model{begun or ', which fit would have left there: name its --out'}"
        )
    try:
        return load_model(path)
    except (Damaged, OtherFormat) as error:
        raise ValueError(f"{error}; fit it again, or restore it from a copy") from error


def _names(given: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in given:
        if Path(name).is_dir():
            below, passed = look_through(Path(name))
            found += [str(Path(name) / image) for image in below]
            if passed:
                print(f"{printable(name)}: passed over: {'; '.join(passed)}", file=sys.stderr)
        elif Path(name).is_file():
            found.append(name)
        else:
            raise ValueError(f"{printable(name)} is neither a folder nor a file; name the images to classify")
    if not found:
        raise ValueError(f"there is no image in {', '.join(map(printable, given))}")
    return found


def _write(file: TextIO, model: TrainedModel, names: Sequence[str], counts: Counter[str], everything: bool) -> None:
    writer = csv.writer(file)
    writer.writerow(["path", "class", "confidence", *(model.class_names if everything else [])])
    told = time.monotonic()
    for number, (name, damage, shares) in enumerate(predictions(model, names), 1):
        if shares is None:
            counts[""] += 1
            writer.writerow([name, "", "", *([""] * len(model.class_names) if everything else [])])
            if counts[""] <= _NAMED:
                print(f"cannot be read: {printable(name)}: {damage}", file=sys.stderr)
            continue
        best = int(shares.argmax())
        counts[model.class_names[best]] += 1
        more = [f"{share:.4f}" for share in shares] if everything else []
        writer.writerow([name, model.class_names[best], f"{shares[best]:.4f}", *more])
        if time.monotonic() - told > _SAY_EVERY:
            told = time.monotonic()
            print(f"{number:,} of {len(names):,} images", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    """The screen, or a file that takes its name when it is whole; until then it grows as `<name>.part`."""
    if path is None:
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
        yield sys.stdout
        return
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("w", encoding="utf-8", errors="surrogateescape", newline="")
    except OSError as error:
        raise ValueError(f"--csv = {path}: cannot be written ({error.strerror}); name another file") from None
    with file:
        yield file
    part.replace(path)
