"""A small convolutional network that learns fast on a CPU, after airbench (Jordan 2024, arXiv 2404.00498)."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from repro.models import Airbench
from repro.models.layers import BatchNorm, initial_dense
from repro.seeding import Streams

_SCALE = 1 / 9  # of the logits (airbench)


def decorrelating_kernels() -> Tensor:
    """Twelve orthonormal 2x2 filters [12, 3, 2, 2]: the four Hadamard patterns in each of three colour directions.

    They are close to the principal components of small patches of natural images. Airbench computes those from the
    training images; these are the same for every data set.
    """
    patterns = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2.0
    colours = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
    colours = colours / colours.norm(dim=1, keepdim=True)
    return torch.einsum("ck,ps->cpks", colours, patterns).reshape(12, 3, 2, 2)


class FixedNorm(BatchNorm):
    """Batch normalisation without trained scale and shift."""

    def __init__(self, channels: int, decay: float, epsilon: float) -> None:
        super().__init__(channels, decay, epsilon)
        for name in ("weight", "bias"):
            value = getattr(self, name).detach()
            delattr(self, name)
            self.register_buffer(name, value)


class AirbenchNet(nn.Module):
    """A fixed stem, three blocks of two 3x3 convolutions, global maximum, dense layer without bias.

    Stem: decorrelated 2x2 patches, with both signs, 24 channels; 2x2 max pool if `stem_pool`; BN, GELU. It is not
    trained, so nothing goes back through it. A block: convolution, 2x2 max pool, BN, GELU, convolution, BN, GELU.
    Convolutions begin as the identity of their inputs (Dirac); where they have more outputs than inputs, these begin
    uniform within 1 / sqrt(9 inputs), as PyTorch's own.
    """

    noise_features = 0  # no dropout
    stem: Tensor

    def __init__(self, config: Airbench, classes: int, streams: Streams, name: str) -> None:
        super().__init__()
        self.pooled = config.stem_pool
        self.register_buffer("stem", decorrelating_kernels())
        self.stem_norm = FixedNorm(24, config.norm_decay, config.norm_epsilon)
        self.convolutions, self.norms = nn.ParameterList(), nn.ModuleList()
        widths = [24, config.first_width, config.width, config.width]
        for block, (inputs, outputs) in enumerate(itertools.pairwise(widths), start=1):
            for layer, channels in enumerate((inputs, outputs), start=1):
                place = f"{name} block {block} conv {layer}"
                self.convolutions.append(nn.Parameter(_initial_kernel(streams, place, outputs, channels)))
                self.norms.append(BatchNorm(outputs, config.norm_decay, config.norm_epsilon))
        self.dense = initial_dense(streams, f"{name} dense", classes, config.width)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images [N, 3, H, W] to logits [N, K]."""
        with torch.no_grad():
            x = functional.conv2d(x, self.stem, padding=1 if self.pooled else 0)
            x = torch.cat([x, -x], dim=1)
            x = functional.gelu(self.stem_norm(functional.max_pool2d(x, 2) if self.pooled else x))
        for layer, (kernel, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = functional.conv2d(x, kernel, padding=1)
            x = functional.gelu(norm(functional.max_pool2d(x, 2) if layer % 2 == 0 else x))
        return functional.linear(x.amax(dim=(2, 3)), self.dense) * _SCALE


def _initial_kernel(streams: Streams, name: str, outputs: int, inputs: int) -> Tensor:
    """[outputs, inputs, 3, 3]: Dirac for the first `inputs` outputs, the others random."""
    kernel = (streams.uniform(name, 0, (outputs, inputs, 3, 3)) * 2 - 1) / math.sqrt(9 * inputs)
    nn.init.dirac_(kernel[:inputs])
    return kernel
