"""The two-moons net, as R independent nets in one stacked model."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from repro.models import Activation, MoonsNet
from repro.seeding import Streams

_ACTIVATIONS = {Activation.sigmoid: torch.sigmoid, Activation.tanh: torch.tanh}


class StackedMlp(nn.Module):
    """2 -> width -> width -> 2 for each seed; all weights of a net are one row of a parameter [*lead, P].

    One parameter makes the optimiser and inner products one operation each. Nets share nothing: net r's gradient of a
    sum of losses over nets is its own.
    """

    noise_features = 0  # no dropout

    def __init__(self, config: MoonsNet, streams: Streams, name: str) -> None:
        super().__init__()
        self._activation = _ACTIVATIONS[config.activation]
        sizes = [2, config.width, config.width, 2]
        self._shapes = [shape for i, o in itertools.pairwise(sizes) for shape in ((i, o), (1, o))]
        self._counts = [i * o for i, o in self._shapes]
        unit = streams.uniform(name, 0, (sum(self._counts),)) * 2 - 1
        self.weights = nn.Parameter(unit * config.initial_range)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Points [*lead, N, 2] to logits [*lead, N, 2]."""
        lead = self.weights.shape[:-1]
        pieces = torch.split(self.weights, self._counts, dim=-1)
        parts = [piece.reshape(*lead, *shape) for piece, shape in zip(pieces, self._shapes, strict=True)]
        for weight, bias in zip(parts[0:-2:2], parts[1:-2:2], strict=True):
            x = self._activation(x @ weight + bias)
        logits: Tensor = x @ parts[-2] + parts[-1]
        return logits
