"""From weights to predicted classes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from repro.augment.views import to_input
from repro.config.schema import Config
from repro.data.sets import Seeds
from repro.data.training import CLASSES
from repro.models.build import build_model
from repro.seeding import Streams


class Predictor:
    """Applies any network of a run, in evaluation mode."""

    def __init__(self, config: Config, seeds: Seeds) -> None:
        streams = Streams(seeds)
        self.lead = streams.lead
        self._model = build_model(config.model, CLASSES[config.data.name], streams, "student").eval()

    @torch.no_grad()
    def probabilities(self, weights: dict[str, Tensor], examples: Tensor, chunk: int = 4096) -> Tensor:
        """Class probabilities [*lead, N, K] of examples [*lead, N, *E]; every example is used, in order."""
        self._model.load_state_dict(weights)
        pieces = torch.split(examples, chunk, dim=len(self.lead))
        return torch.cat([torch.softmax(self._model(to_input(piece)), dim=-1) for piece in pieces], dim=len(self.lead))

    def classes(self, weights: dict[str, Tensor], examples: Tensor) -> np.ndarray:
        """Predicted classes, uint8 [R, N]; R = 1 without a leading shape."""
        classes = self.probabilities(weights, examples).argmax(dim=-1).to(torch.uint8).numpy()
        return classes if self.lead else classes[None]
