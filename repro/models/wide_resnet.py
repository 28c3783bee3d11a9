"""WideResNet (Zagoruyko and Komodakis 2016) as in the released code: pre-activation blocks, LeakyReLU, SAME padding."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from repro.models import WideResNet
from repro.models.layers import BatchNorm, dropout, initial_dense, initial_kernel, same_convolution
from repro.seeding import Streams


class Block(nn.Module):
    """BN, LeakyReLU, 3x3 convolution, twice, added to a shortcut.

    The shortcut is the input itself, or, where stride or channels change, a 1x1 convolution of the *activated* input.
    """

    def __init__(self, config: WideResNet, inputs: int, outputs: int, stride: int, streams: Streams, name: str) -> None:
        super().__init__()
        self.stride, self.leak = stride, config.leak
        self.norm_1 = BatchNorm(inputs, config.norm_decay, config.norm_epsilon)
        self.convolution_1 = initial_kernel(streams, f"{name} conv 1", outputs, inputs, 3)
        self.norm_2 = BatchNorm(outputs, config.norm_decay, config.norm_epsilon)
        self.convolution_2 = initial_kernel(streams, f"{name} conv 2", outputs, outputs, 3)
        changes = stride > 1 or inputs != outputs
        self.shortcut = initial_kernel(streams, f"{name} shortcut", outputs, inputs, 1) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, D, H / stride, W / stride]."""
        active = functional.leaky_relu(self.norm_1(x), self.leak, inplace=True)
        shortcut = x if self.shortcut is None else same_convolution(active, self.shortcut, self.stride)
        hidden = self.norm_2(same_convolution(active, self.convolution_1, self.stride))
        return shortcut + same_convolution(functional.leaky_relu(hidden, self.leak, inplace=True), self.convolution_2)


class WideResidualNet(nn.Module):
    """3x3 stem, three groups of n = (depth - 4) / 6 blocks, BN, LeakyReLU, mean pool, dropout, dense.

    The groups have 16, 32 and 64 times `width` channels and strides 1, 2 and 2; the stem has 16 times `width` too.
    """

    def __init__(self, config: WideResNet, classes: int, streams: Streams, name: str, dropout_rate: float) -> None:
        super().__init__()
        self.leak, self.dropout_rate = config.leak, dropout_rate
        channels = 16 * config.width
        self.stem = initial_kernel(streams, f"{name} stem", channels, 3, 3)
        self.blocks = nn.ModuleList()
        for group, stride in enumerate((1, 2, 2)):
            outputs = 16 * config.width * 2**group
            for block in range((config.depth - 4) // 6):
                place = f"{name} block {len(self.blocks) + 1}"
                self.blocks.append(Block(config, channels, outputs, stride if block == 0 else 1, streams, place))
                channels = outputs
        self.norm = BatchNorm(channels, config.norm_decay, config.norm_epsilon)
        self.noise_features = channels
        self.dense = initial_dense(streams, f"{name} dense", classes, channels)
        self.bias = nn.Parameter(self.dense.new_zeros(classes))

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images [N, 3, H, W] and, in training, uniform noise [N, noise_features] for dropout, to logits [N, K]."""
        x = same_convolution(x, self.stem)
        for block in self.blocks:
            x = block(x)
        features = functional.leaky_relu(self.norm(x), self.leak, inplace=True).mean(dim=(2, 3))
        if self.training and self.dropout_rate:
            features = dropout(features, self.dropout_rate, noise)
        return functional.linear(features, self.dense, self.bias)
