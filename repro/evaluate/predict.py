"""From weights to predicted classes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from repro.config import Config
from repro.data import source_of
from repro.data.images import ImageFiles
from repro.data.sets import Examples, HeldOutSet, Seeds
from repro.engine.device import choose_device, place
from repro.models.networks import build_model
from repro.seeding import Streams
from repro.settings import Precision

Weights = Mapping[str, Tensor]


class Predictor:
    """Applies any networks of a run, in evaluation mode and float32, on the GPU if there is one."""

    def __init__(self, config: Config, seeds: Seeds) -> None:
        self.seeds, self._streams = seeds, Streams(seeds)
        self._config, self._source, self._device = config, source_of(config.data), choose_device()
        self.lead, self.class_count = self._streams.lead, self._source.classes
        self._models: list[nn.Module] = []

    @torch.no_grad()
    def probabilities(self, weights: Weights, examples: Examples) -> Tensor:
        """Class probabilities [*lead, N, K] of examples [*lead, N, *E]; every example is used, in order."""
        return torch.cat([passed[""] for passed in self._passes({"": weights}, examples)], dim=len(self.lead))

    @torch.no_grad()
    def ranked(self, networks: Mapping[str, Weights], examples: Examples, most: int) -> dict[str, np.ndarray]:
        """For each network the `most` likeliest classes of every example, the likeliest first: [R, N, most].

        The examples are gone through once, so images in files are decoded once for all networks. Of equally likely
        classes the lower one comes first. The type is uint8, or uint16 where there are more than 256 classes; R = 1
        without a leading shape.
        """
        found: dict[str, list[np.ndarray]] = {name: [] for name in networks}
        kind = np.uint8 if self.class_count <= 256 else np.uint16
        for passed in self._passes(networks, examples):
            for name, probabilities in passed.items():
                found[name].append(_likeliest(probabilities, most).numpy().astype(kind))
        joined = {name: np.concatenate(parts, axis=len(self.lead)) for name, parts in found.items()}
        return joined if self.lead else {name: classes[None] for name, classes in joined.items()}

    def classes(self, weights: Weights, examples: Examples) -> np.ndarray:
        """Predicted classes of one network, [R, N], of the type that `ranked` gives."""
        return self.ranked({"": weights}, examples, 1)[""][..., 0]

    def held(self, examples: Examples, most: int) -> Examples:
        """The same examples, those in files decoded once and for all if that takes `most` bytes or less."""
        if not isinstance(examples, ImageFiles) or math.prod(examples.shape) > most:
            return examples
        return examples.centre(self._config.engine.readers)

    def _passes(self, networks: Mapping[str, Weights], examples: Examples) -> Iterator[dict[str, Tensor]]:
        """Class probabilities by network, [*lead, n, K], of some examples at a time."""
        engine = replace(self._config.engine, precision=Precision.float32)
        while len(self._models) < len(networks):
            model = build_model(self._config.model, self.class_count, self._streams, "student").eval()
            self._models.append(place(model, engine, self._device))
        models = dict(zip(networks, self._models, strict=False))
        for name, model in models.items():
            model.load_state_dict(networks[name])
        for x in self._inputs(examples):
            yield {name: torch.softmax(model(x), dim=-1).cpu() for name, model in models.items()}

    def _inputs(self, examples: Examples) -> Iterator[Tensor]:
        """What the networks take, some examples at a time."""
        if isinstance(examples, ImageFiles):
            yield from self._read(examples)
            return
        chunk = self._chunk(examples[(0,) * (len(self.lead) + 1)].numel())
        for piece in torch.split(examples, chunk, dim=len(self.lead)):
            yield self._source.to_input(piece.to(self._device))

    def _read(self, files: ImageFiles) -> Iterator[Tensor]:
        """The same from files: while the networks look at some images, the next ones are read."""
        chunk, readers = self._chunk(math.prod(files.shape[1:])), self._config.engine.readers
        parts = [files[first : first + chunk] for first in range(0, len(files), chunk)]
        with ThreadPoolExecutor(1) as ahead:
            reading = ahead.submit(self._source.as_evaluated, parts[0], readers)
            for after in [*parts[1:], None]:
                images = reading.result()
                if after is not None:
                    reading = ahead.submit(self._source.as_evaluated, after, readers)
                yield images.to(self._device)

    def _chunk(self, numbers: int) -> int:
        """Examples a pass: on a CPU as many as its cache holds, 64 images of 32x32 being 3 times as fast as 1,024."""
        room = 64 * 3072 if self._device.type == "cpu" else 1024 * 3072
        return max(32, min(4096, room // numbers))


@dataclass(frozen=True)
class Score:
    """Predictions on labelled examples, counted."""

    right: int
    images: int
    confusion: list[list[int]]  # [K, K], rows are the true classes
    classes: np.ndarray  # uint8 or uint16 [N], predicted
    shares: np.ndarray  # float32 [N], the probability of each predicted class


def score(config: Config, seed: int, weights: Weights, given: HeldOutSet | None = None) -> Score | None:
    """How a network does on all test images, or on those given; None where there are none."""
    source = source_of(config.data)
    test = source.held_out_set(seed) if given is None else given
    if not len(test.labels):
        return None
    return scored(Predictor(config, seed).probabilities(weights, test.examples), test.labels, source.classes)


def scored(probabilities: Tensor, labels: Tensor, count: int) -> Score:
    """Of probabilities [N, K] and true classes int64 [N]."""
    shares, predicted = probabilities.max(dim=-1)
    confusion = torch.bincount(labels * count + predicted, minlength=count**2).reshape(count, count)
    kind = np.uint8 if count <= 256 else np.uint16
    return Score(int((predicted == labels).sum()), len(labels), confusion.tolist(), predicted.numpy().astype(kind),
                 shares.numpy())  # fmt: skip


def _likeliest(probabilities: Tensor, most: int) -> Tensor:
    """The classes of the `most` largest of [..., K], int64 [..., most]; the first one is what `argmax` gives."""
    if most == 1:
        return probabilities.argmax(dim=-1, keepdim=True)
    return probabilities.sort(dim=-1, descending=True, stable=True).indices[..., :most]


def halved(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a file holds of these weights: float16 where there are two dimensions or more."""
    return {
        name: (value.half() if value.is_floating_point() and value.ndim > 1 else value).contiguous()
        for name, value in weights.items()
    }


def weights_hash(weights: Weights) -> str:
    """SHA-256 over names, in order, shapes, types and bytes of one network's weights, as `halved` keeps them."""
    digest = hashlib.sha256()
    for name, value in sorted(halved(weights).items()):
        digest.update(f"{name}{value.dtype}{list(value.shape)}".encode())
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()
