"""A small convolutional net for 8x8 images: enough for the digits on a CPU, with the parts MPL's disputes turn on."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from repro.models import SmallConv
from repro.models.layers import BatchNorm, dropout
from repro.seeding import Streams


class SmallConvNet(nn.Module):
    """conv(w) - conv(2w, stride 2) - conv(2w), each with batch norm and LeakyReLU 0.2; mean pool, dropout, dense."""

    def __init__(self, config: SmallConv, classes: int, streams: Streams, name: str) -> None:
        super().__init__()
        widths = [1, config.width, 2 * config.width, 2 * config.width]
        self.dropout_rate = config.dropout
        self.noise_features = widths[-1]
        self.convolutions = nn.ParameterList()
        self.norms = nn.ModuleList()
        for layer, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            kernel = streams.normal(f"{name} conv {layer}", 0, (outputs, inputs, 3, 3))
            self.convolutions.append(nn.Parameter(kernel * math.sqrt(2 / (9 * outputs))))
            self.norms.append(BatchNorm(outputs))
        dense = streams.uniform(f"{name} dense", 0, (classes, widths[-1])) * 2 - 1
        self.dense = nn.Parameter(dense / math.sqrt(classes))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images [N, 1, 8, 8] and, in training, uniform noise [N, noise_features] for dropout, to logits [N, K]."""
        for layer, (kernel, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = functional.conv2d(x, kernel, stride=2 if layer == 1 else 1, padding=1)
            x = functional.leaky_relu(norm(x), 0.2)
        features = x.mean(dim=(2, 3))
        if self.training and self.dropout_rate:
            features = dropout(features, self.dropout_rate, noise)
        return functional.linear(features, self.dense, self.bias)
