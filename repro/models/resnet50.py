"""ResNet-50 (He et al. 2016) as in the released code: stride on the 3x3 convolution, SAME padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from repro.models import ResNet50
from repro.models.layers import BatchNorm, dropout, initial_dense, initial_kernel, same_convolution, same_max_pool
from repro.seeding import Streams

_BLOCKS, _STRIDES = (3, 4, 6, 3), (1, 2, 2, 2)


class ConvolutionNorm(nn.Module):
    """A convolution and its batch normalisation."""

    def __init__(
        self, config: ResNet50, outputs: int, inputs: int, size: int, stride: int, streams: Streams, name: str
    ) -> None:
        super().__init__()
        self.stride = stride
        self.kernel = initial_kernel(streams, name, outputs, inputs, size)
        self.norm = BatchNorm(outputs, config.norm_decay, config.norm_epsilon)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, D, H / stride, W / stride]."""
        normalised: Tensor = self.norm(same_convolution(x, self.kernel, self.stride))
        return normalised


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions to 4 `width` channels, added to a shortcut, ReLU.

    The shortcut is the input, or, where stride or channels change, a 1x1 convolution of it with batch norm.
    """

    def __init__(self, config: ResNet50, inputs: int, width: int, stride: int, streams: Streams, name: str) -> None:
        super().__init__()
        outputs = 4 * width
        self.reduce = ConvolutionNorm(config, width, inputs, 1, 1, streams, f"{name} conv 1")
        self.spatial = ConvolutionNorm(config, width, width, 3, stride, streams, f"{name} conv 2")
        self.expand = ConvolutionNorm(config, outputs, width, 1, 1, streams, f"{name} conv 3")
        self.shortcut = (
            ConvolutionNorm(config, outputs, inputs, 1, stride, streams, f"{name} shortcut")
            if stride > 1 or inputs != outputs
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, 4 width, H / stride, W / stride]."""
        shortcut = x if self.shortcut is None else self.shortcut(x)
        hidden = torch.relu(self.spatial(torch.relu(self.reduce(x))))
        return torch.relu(shortcut + self.expand(hidden))


class ResidualNet50(nn.Module):
    """7x7 stem at stride 2, 3x3 max pool at stride 2, bottleneck blocks 3, 4, 6, 3, mean pool, dropout, dense.

    Of the stem's `width` channels (64 in ResNet-50) the groups have 4, 8, 16 and 32 times as many.
    """

    def __init__(self, config: ResNet50, classes: int, streams: Streams, name: str, dropout_rate: float) -> None:
        super().__init__()
        self.dropout_rate = dropout_rate
        channels = config.width
        self.stem = ConvolutionNorm(config, channels, 3, 7, 2, streams, f"{name} stem")
        self.blocks = nn.ModuleList()
        for group, (blocks, stride) in enumerate(zip(_BLOCKS, _STRIDES, strict=True)):
            width = config.width * 2**group
            for block in range(blocks):
                place = f"{name} block {len(self.blocks) + 1}"
                self.blocks.append(Bottleneck(config, channels, width, stride if block == 0 else 1, streams, place))
                channels = 4 * width
        self.noise_features = channels
        self.dense = initial_dense(streams, f"{name} dense", classes, channels)
        self.bias = nn.Parameter(self.dense.new_zeros(classes))

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images [N, 3, H, W] and, in training, uniform noise [N, noise_features] for dropout, to logits [N, K]."""
        x = same_max_pool(torch.relu(self.stem(x)), 3, 2)
        for block in self.blocks:
            x = block(x)
        features = x.mean(dim=(2, 3))
        if self.training and self.dropout_rate:
            features = dropout(features, self.dropout_rate, noise)
        return functional.linear(features, self.dense, self.bias)
