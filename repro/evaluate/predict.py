"""From weights to predicted classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from repro.augment.views import to_input
from repro.config.schema import Config, Precision
from repro.data.sets import Seeds
from repro.data.training import CLASSES
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
        model = build_model(config.model, CLASSES[config.data.name], streams, "student").eval()
        self._model = place(model, replace(config.engine, precision=Precision.float32), self._device)

    @torch.no_grad()
    def probabilities(self, weights: dict[str, Tensor], examples: Tensor) -> Tensor:
        """Class probabilities [*lead, N, K] of examples [*lead, N, *E]; every example is used, in order."""
        self._model.load_state_dict(weights)
        pieces = torch.split(examples, self._chunk(examples), dim=len(self.lead))
        inputs = (to_input(piece.to(self._device), self._data) for piece in pieces)
        return torch.cat([torch.softmax(self._model(x), dim=-1).cpu() for x in inputs], dim=len(self.lead))

    def _chunk(self, examples: Tensor) -> int:
        """Examples a pass: on a CPU as many as its cache holds, 64 images of 32x32 being 3 times as fast as 1,024."""
        numbers = examples[(0,) * (len(self.lead) + 1)].numel()
        room = 64 * 3072 if self._device.type == "cpu" else 1024 * 3072
        return max(32, min(4096, room // numbers))

    def classes(self, weights: dict[str, Tensor], examples: Tensor) -> np.ndarray:
        """Predicted classes, uint8 [R, N]; R = 1 without a leading shape."""
        classes = self.probabilities(weights, examples).argmax(dim=-1).to(torch.uint8).numpy()
        return classes if self.lead else classes[None]
