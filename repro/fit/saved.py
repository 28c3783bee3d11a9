"""A trained classifier in a folder: plain weights and a description; it classifies images, and becomes ONNX."""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import io
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TextIO, cast

import numpy as np
import torch
from PIL import Image
from pydantic import ConfigDict, FiniteFloat, TypeAdapter, ValidationError
from pydantic_core import from_json
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from typing_extensions import TypedDict

from repro.config import Config, as_mapping, read_config
from repro.data import FolderData, source_of
from repro.data.images import Levels, is_image, read_image, resized
from repro.data.layout import look_through, printable
from repro.engine.device import free_processors, set_up_process
from repro.evaluate.predict import Predictor
from repro.files import partly, read_whole, write_whole
from repro.models import Pretrained
from repro.models.networks import build_model
from repro.models.pretrained import LARGEST
from repro.seeding import Streams
from repro.settings import ConfigError, short

WEIGHTS, DESCRIPTION = "model.safetensors", "config.json"
"""What fit leaves in a model's folder; the description is written last."""

_FORMAT = "repro-classifier-1"
_AT_ONCE = 512  # images in memory
_PREFIX = "module."  # of a pretrained network's tensors, here; in the file they have the names of their library

Picture = str | Path | Image.Image


class _Facts(TypedDict):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    right: int | None
    images: int
    on: Literal["test", "aside", "cross"]


class _Described(TypedDict):
    """What of the description is read."""

    format: Literal["repro-classifier-1"]
    class_names: list[str]
    levels: tuple[FiniteFloat, FiniteFloat] | None
    sha256: str
    facts: _Facts
    settings: dict[str, Any]


class Predictions(NamedTuple):
    """Of N images: the likeliest class of each, and the probabilities of all K classes."""

    classes: list[str]
    probabilities: np.ndarray  # float32 [N, K]


@dataclass(frozen=True)
class Classifier:
    """A network with all that applies it to images: `Classifier.load("models/mine").predict(["a.jpg"])`."""

    settings: Config  # of its training
    class_names: list[str]
    weights: dict[str, Tensor]  # float32
    facts: dict[str, Any]  # what is known of how well it does
    levels: Levels | None = None  # the scale of its training images of more than 8 bits

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The classifier of a folder; nothing in it is executed.

        Raises:
            ValueError: when it is not there, unfinished, or damaged.
        """
        place = Path(folder)
        if not (place / DESCRIPTION).is_file():
            begun = " yet: run the fit again to go on" if (place / "settings.yaml").is_file() else ""
            raise ValueError(
                f"{place} holds no trained model{begun or ', which fit would have left there: name its --out'}"
            )
        remedy = "fit it again, or restore it from a copy"
        try:
            described, content = read_whole(place / DESCRIPTION), read_whole(place / WEIGHTS, LARGEST)
            given = TypeAdapter(_Described).validate_python(from_json(described))
            config, names = read_config(given["settings"]), given["class_names"]
        except OSError as error:
            raise ValueError(f"{error.filename}: cannot be read ({error.strerror}); {remedy}") from None
        except ValidationError as error:
            first = error.errors()[0]
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise ValueError(f"{place / DESCRIPTION}: is damaged, or of another version ({why}); {remedy}") from None
        except ValueError as error:
            raise ValueError(f"{place / DESCRIPTION}: is damaged, or of another version ({error}); {remedy}") from None
        if hashlib.sha256(content).hexdigest() != given["sha256"]:
            raise ValueError(f"{place / WEIGHTS}: is not the file that {DESCRIPTION} was written for; {remedy}")
        data = config.data
        if not data.in_files or not len(set(names)) == len(names) == cast(FolderData, data).classes:
            raise ValueError(f"{place / DESCRIPTION}: its classes are not those of its settings; {remedy}")
        try:
            prefix = _PREFIX if isinstance(config.model, Pretrained) else ""
            weights = {f"{prefix}{name}": value for name, value in load(content).items()}
            build_model(config.model, len(names), Streams(0), "student").load_state_dict(weights)
        except (SafetensorError, RuntimeError):
            raise ValueError(f"{place / WEIGHTS}: holds no weights of the network that {DESCRIPTION} names; {remedy}"
                             ) from None  # fmt: skip
        if not all(bool(value.isfinite().all()) for value in weights.values()):
            raise ValueError(f"{place / WEIGHTS}: holds numbers that are not finite; {remedy}")
        return cls(config, names, weights, dict(given["facts"]), given["levels"])

    def save(self, folder: Path) -> None:
        """Writes it, each file whole or not at all; `safetensors` reads the one, `json` the other."""
        config, model, data = self.settings, self.settings.model, cast(FolderData, self.settings.data)
        network: dict[str, Any] = {"library": "repro", "classes": len(self.class_names)}
        network |= {k: v for k, v in as_mapping(model).items() if k not in {"weights", "weights_hash", "head_only"}}
        source: Any = source_of(data)
        mean, deviation = source.mean, source.deviation
        if isinstance(model, Pretrained):
            config = replace(config, model=replace(model, weights="", weights_hash=""))
            network["name"], mean, deviation = network.pop("network"), network.pop("mean"), network.pop("deviation")
        content = save({k.removeprefix(_PREFIX): v.contiguous() for k, v in self.weights.items()}, {"format": "pt"})
        told = {
            "format": _FORMAT, "class_names": self.class_names, "network": network, "size": data.image_size,
            "mean": mean, "deviation": deviation, "centre": data.views.evaluated_share, "levels": self.levels,
            "sha256": hashlib.sha256(content).hexdigest(), "facts": self.facts, "settings": as_mapping(config),
        }  # fmt: skip
        write_whole(folder / WEIGHTS, content)
        write_whole(folder / DESCRIPTION, json.dumps(told, indent=1, ensure_ascii=False).encode(errors="replace"))

    def predict(self, images: Picture | Sequence[Picture]) -> Predictions:
        """Classifies images.

        Args:
            images: one or several, each a path or an image of Pillow's.

        Raises:
            ValueError: naming the first image that cannot be read, and why.
        """
        given = [images] if isinstance(images, Picture) else list(images)
        found = []
        for one, (damage, shares) in zip(given, self.each(given), strict=True):
            if shares is None:
                name = one if isinstance(one, str | Path) else "an image"
                raise ValueError(f"{name} cannot be read: {damage}")
            found.append(shares)
        probabilities = np.stack(found) if found else np.empty((0, len(self.class_names)), dtype=np.float32)
        return Predictions([self.class_names[k] for k in probabilities.argmax(axis=1)], probabilities)

    def each(self, images: Sequence[Picture]) -> Iterator[tuple[str, np.ndarray | None]]:
        """For each image, in order, nothing and its probabilities, float32 [K]; or why it could not be read, and None.

        Images are read while the network is at work.
        """
        predictor = Predictor(self.settings, 0)
        with ThreadPoolExecutor() as pool:
            ahead = pool.map(self.read, images[:_AT_ONCE])
            for first in range(0, len(images), _AT_ONCE):
                some = list(ahead)
                ahead = pool.map(self.read, images[first + _AT_ONCE : first + 2 * _AT_ONCE])
                whole = [image for image in some if not isinstance(image, str)]
                rows = iter(predictor.probabilities(self.weights, torch.stack(whole)).numpy() if whole else ())
                for image in some:
                    yield (image, None) if isinstance(image, str) else ("", next(rows))

    def read(self, image: Picture) -> Tensor | str:
        """An image as evaluation sees it, uint8 [3, size, size]; or, in a few words, what is wrong with it."""
        try:
            return read_file(image, cast(FolderData, self.settings.data), self.levels)
        except Exception as error:  # noqa: BLE001 - Pillow has an error of its own for each kind of damage
            return str(error)


def read_file(image: Picture, data: FolderData, levels: Levels | None) -> Tensor:
    """An image as evaluation sees it, uint8 [3, size, size].

    Raises:
        ValueError: naming what is wrong, in a few words without the path, when a file is no whole image.
    """
    how = data.image_size, data.views.evaluated_share, levels
    pixels = resized(image, *how) if isinstance(image, Image.Image) else read_image(Path(image), *how)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


# ONNX


class _Whole(nn.Module):
    """Colours on 0 to 1, float32 [N, 3, size, size], to probabilities [N, K]."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        config, source = classifier.settings, cast(Any, source_of(classifier.settings.data))
        self.network = build_model(config.model, source.classes, Streams(0), "student")
        self.network.load_state_dict(classifier.weights)
        for name, values in (("mean", source.mean), ("deviation", source.deviation)):
            self.register_buffer(name, torch.tensor(values)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        normalised = (images - self.get_buffer("mean")) / self.get_buffer("deviation")
        return torch.softmax(self.network(normalised), dim=-1)


_TOLERANCE = 1e-4  # of a probability: float32 kernels of two libraries
_ONNX = "pip install -e '.[onnx]'"


def export_onnx(folder: Path, path: Path) -> None:
    """Writes the classifier of a folder as ONNX, once it gives there what it gives here, on three images of noise.

    Raises:
        ValueError: when a package is missing, the network cannot be exported, or the probabilities differ.
    """
    path, classifier = _to_write("--onnx", path), Classifier.load(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch.onnx asks for it, in many words
    except ImportError as error:
        raise ConfigError(f"--onnx = {path}: needs the package {error.name}: {_ONNX}") from None
    set_up_process(free_processors())
    whole, size = _Whole(classifier).eval(), cast(FolderData, classifier.settings.data).image_size
    streams = Streams(0)
    images = streams.uniform("images", 0, (3, 3, size, size)).float()
    part = partly(path)
    try:
        with torch.no_grad(), contextlib.redirect_stdout(sys.stderr):
            torch.onnx.export(
                whole, (images,), part, input_names=["images"], output_names=["probabilities"], dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("n", min=1)},), external_data=False, verbose=False,
            )  # fmt: skip
            expected = whole(images[:2]).numpy()
        session = onnxruntime.InferenceSession(part, providers=["CPUExecutionProvider"])
        found = session.run(None, {"images": images[:2].numpy()})[0]
        worst = float(np.abs(found - expected).max())
        if not worst <= _TOLERANCE:
            raise ValueError(f"--onnx = {path}: a probability differs by {worst:.1g} from the network's, more than "
                             f"{_TOLERANCE:g}; nothing is written; take another --backbone")  # fmt: skip
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    count = len(classifier.class_names)
    print(f"{path}: images [N, 3, {size}, {size}], colours on 0 to 1, to probabilities of {count} classes; at most "
          f"{worst:.1g} from the network's")  # fmt: skip


# The verb


_NAMED = 10  # unreadable images on the screen
_SAY_EVERY = 5.0  # seconds


def predict(arguments: argparse.Namespace) -> None:
    """Predicts, writes, counts."""
    set_up_process(free_processors())
    path = _to_write("--csv", arguments.csv) if arguments.csv else None
    model, names = Classifier.load(arguments.model), _names(arguments.images)
    counts: Counter[str] = Counter()
    begun = time.monotonic()
    if path:
        text = io.StringIO(newline="")
        _write(text, model, names, counts, arguments.probabilities)
        write_whole(path, text.getvalue().encode(errors="surrogateescape"))
    else:
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
        _write(sys.stdout, model, names, counts, arguments.probabilities)
    seconds = time.monotonic() - begun
    parts = [f"{name} {counts[name]:,}" for name in model.class_names if counts[name]]
    print(f"{len(names):,} images in {seconds:.0f} s: {', '.join(parts) or 'none could be read'}", file=sys.stderr)
    if counts[""]:
        print(f"{counts['']:,} could not be read: an empty class in the CSV", file=sys.stderr)


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


def _write(file: TextIO, model: Classifier, names: Sequence[str], counts: Counter[str], everything: bool) -> None:
    writer = csv.writer(file)
    writer.writerow(["path", "class", "confidence", *(model.class_names if everything else [])])
    told = time.monotonic()
    for number, (name, (damage, shares)) in enumerate(zip(names, model.each(names), strict=True), 1):
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


def _to_write(option: str, path: Path) -> Path:
    """The file that a person names, where links lead to it.

    Raises:
        ValueError: where it is a folder, a device or a pipe, which a file must not replace, an image, or out of reach.
    """
    try:
        place = path.resolve()
        if not path.name or (place.exists() and (not place.is_file() or is_image(place))):
            what = "a folder" if place.is_dir() else "an image" if place.is_file() else "a device or a pipe"
            raise ValueError(f"{option} = {path}: is {what}; name the file to write")
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", error)
        raise ValueError(f"{option} = {short(str(path))}: cannot be written ({why}); name another file") from None
    return place
