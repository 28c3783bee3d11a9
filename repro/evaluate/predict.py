"""From weights to predicted classes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from repro.augment.views import as_evaluated, to_input
from repro.config.schema import Config, Precision
from repro.data.image_files import ImageFiles
from repro.data.sets import Examples, Seeds
from repro.data.training import class_count
from repro.engine.device import choose_device
from repro.engine.place import place
from repro.models.build import build_model
from repro.seeding import Streams


class Predictor:
    """Applies any network of a run, in evaluation mode and float32, on the GPU if there is one."""

    def __init__(self, config: Config, seeds: Seeds) -> None:
        streams = Streams(seeds)
        self.lead = streams.lead
        self._data, self._device = config.data, choose_device()
        self._readers = config.engine.readers
        model = build_model(config.model, class_count(config.data), streams, "student").eval()
        self._model = place(model, replace(config.engine, precision=Precision.float32), self._device)

    @torch.no_grad()
    def probabilities(self, weights: dict[str, Tensor], examples: Examples) -> Tensor:
        """Class probabilities [*lead, N, K] of examples [*lead, N, *E]; every example is used, in order."""
        self._model.load_state_dict(weights)
        outputs = [torch.softmax(self._model(x), dim=-1).cpu() for x in self._inputs(examples)]
        return torch.cat(outputs, dim=len(self.lead))

    def _inputs(self, examples: Examples) -> Iterator[Tensor]:
        """What the network takes, some examples at a time."""
        if isinstance(examples, ImageFiles):
            chunk = self._chunk(math.prod(examples.shape[1:]))
            for first in range(0, len(examples), chunk):
                yield as_evaluated(examples[first : first + chunk], self._data, self._readers).to(self._device)
            return
        chunk = self._chunk(examples[(0,) * (len(self.lead) + 1)].numel())
        for piece in torch.split(examples, chunk, dim=len(self.lead)):
            yield to_input(piece.to(self._device), self._data)

    def _chunk(self, numbers: int) -> int:
        """Examples a pass: on a CPU as many as its cache holds, 64 images of 32x32 being 3 times as fast as 1,024."""
        room = 64 * 3072 if self._device.type == "cpu" else 1024 * 3072
        return max(32, min(4096, room // numbers))

    def classes(self, weights: dict[str, Tensor], examples: Examples) -> np.ndarray:
        """Predicted classes, uint8 [R, N], or uint16 where there are more than 256; R = 1 without a leading shape."""
        probabilities = self.probabilities(weights, examples)
        kind = np.uint8 if probabilities.shape[-1] <= 256 else np.uint16
        classes: np.ndarray = probabilities.argmax(dim=-1).numpy().astype(kind)
        return classes if self.lead else classes[None]
