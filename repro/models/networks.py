"""The networks, and how one is built from its settings with reproducible initial weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from repro.models import Activation, Airbench, Model, MoonsNet, Pretrained, ResNet50, SmallConv, WideResNet
from repro.models.layers import BatchNorm, dropout, initial_dense, initial_kernel, same_convolution, same_max_pool
from repro.seeding import Streams


def build_model(config: Model, classes: int, streams: Streams, role: str) -> nn.Module:
    """A network whose initial weights are a function of (seed, role), and whose dropout is its role's.

    `role` is "teacher" or "student". A method that trains a single network gives it one of these roles, so that the
    network UDA trains starts where MPL's teacher starts. Its `classes` are K, for what a method keeps of each class.
    """
    name = f"init {role}"
    network = _NETWORKS[type(config)](config, classes, streams, name, getattr(config, f"{role}_dropout", 0.0))
    network.classes = classes  # type: ignore[assignment]
    return network


class Classifier(nn.Module):
    """A network that ends with dropout of its features and a dense layer."""

    def end_with(self, features: int, dropout_rate: float, classes: int, streams: Streams, name: str) -> None:
        """The end: logits of `classes` from so many features."""
        self.noise_features, self.dropout_rate = features, dropout_rate
        self.dense = initial_dense(streams, f"{name} dense", classes, features)
        self.bias = nn.Parameter(self.dense.new_zeros(classes))

    def logits(self, features: Tensor, noise: Tensor | None) -> Tensor:
        """[N, F] and, in training, uniform noise [N, noise_features] for dropout, to [N, K]."""
        if self.training and self.dropout_rate:
            features = dropout(features, self.dropout_rate, noise)
        return functional.linear(features, self.dense, self.bias)


_ACTIVATIONS = {Activation.sigmoid: torch.sigmoid, Activation.tanh: torch.tanh}


class StackedMlp(nn.Module):
    """2 -> width -> width -> 2 for each seed; all weights of a net are one row of a parameter [*lead, P].

    One parameter makes the optimiser and inner products one operation each. Nets share nothing: net r's gradient of a
    sum of losses over nets is its own.
    """

    noise_features = 0  # no dropout

    def __init__(self, config: MoonsNet, classes: int, streams: Streams, name: str, _: float = 0.0) -> None:
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


class SmallConvNet(Classifier):
    """conv(w) - conv(2w, stride 2) - conv(2w), each with batch norm and LeakyReLU 0.2; mean pool, dropout, dense."""

    def __init__(self, config: SmallConv, classes: int, streams: Streams, name: str, _: float = 0.0) -> None:
        super().__init__()
        self.convolutions, self.norms = nn.ParameterList(), nn.ModuleList()
        widths = [1, config.width, 2 * config.width, 2 * config.width]
        for layer, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            self.convolutions.append(initial_kernel(streams, f"{name} conv {layer}", outputs, inputs, 3))
            self.norms.append(BatchNorm(outputs))
        self.end_with(widths[-1], config.dropout, classes, streams, name)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images [N, 1, 8, 8] to logits [N, K]."""
        for layer, (kernel, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = functional.conv2d(x, kernel, stride=2 if layer == 1 else 1, padding=1)
            x = functional.leaky_relu(norm(x), 0.2)
        return self.logits(x.mean(dim=(2, 3)), noise)


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


class WideResidualNet(Classifier):
    """3x3 stem, three groups of n = (depth - 4) / 6 blocks, BN, LeakyReLU, mean pool, dropout, dense.

    The groups have 16, 32 and 64 times `width` channels and strides 1, 2 and 2; the stem has 16 times `width` too.
    """

    def __init__(self, config: WideResNet, classes: int, streams: Streams, name: str, dropout_rate: float) -> None:
        super().__init__()
        self.leak, channels = config.leak, 16 * config.width
        self.stem = initial_kernel(streams, f"{name} stem", channels, 3, 3)
        self.blocks = nn.ModuleList()
        for group, stride in enumerate((1, 2, 2)):
            outputs = 16 * config.width * 2**group
            for block in range((config.depth - 4) // 6):
                place = f"{name} block {len(self.blocks) + 1}"
                self.blocks.append(Block(config, channels, outputs, stride if block == 0 else 1, streams, place))
                channels = outputs
        self.norm = BatchNorm(channels, config.norm_decay, config.norm_epsilon)
        self.end_with(channels, dropout_rate, classes, streams, name)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images [N, 3, H, W] to logits [N, K]."""
        x = same_convolution(x, self.stem)
        for block in self.blocks:
            x = block(x)
        return self.logits(functional.leaky_relu(self.norm(x), self.leak, inplace=True).mean(dim=(2, 3)), noise)


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
        changes = stride > 1 or inputs != outputs
        shortcut = (config, outputs, inputs, 1, stride, streams, f"{name} shortcut")
        self.shortcut = ConvolutionNorm(*shortcut) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, 4 width, H / stride, W / stride]."""
        shortcut = x if self.shortcut is None else self.shortcut(x)
        hidden = torch.relu(self.spatial(torch.relu(self.reduce(x))))
        return torch.relu(shortcut + self.expand(hidden))


class ResidualNet50(Classifier):
    """7x7 stem at stride 2, 3x3 max pool at stride 2, bottleneck blocks 3, 4, 6, 3, mean pool, dropout, dense.

    Of the stem's `width` channels (64 in ResNet-50) the groups have 4, 8, 16 and 32 times as many.
    """

    def __init__(self, config: ResNet50, classes: int, streams: Streams, name: str, dropout_rate: float) -> None:
        super().__init__()
        channels = config.width
        self.stem = ConvolutionNorm(config, channels, 3, 7, 2, streams, f"{name} stem")
        self.blocks = nn.ModuleList()
        for group, (blocks, stride) in enumerate(zip(_BLOCKS, _STRIDES, strict=True)):
            width = config.width * 2**group
            for block in range(blocks):
                place = f"{name} block {len(self.blocks) + 1}"
                self.blocks.append(Bottleneck(config, channels, width, stride if block == 0 else 1, streams, place))
                channels = 4 * width
        self.end_with(channels, dropout_rate, classes, streams, name)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images [N, 3, H, W] to logits [N, K]."""
        x = same_max_pool(torch.relu(self.stem(x)), 3, 2)
        for block in self.blocks:
            x = block(x)
        return self.logits(x.mean(dim=(2, 3)), noise)


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

    def __init__(self, config: Airbench, classes: int, streams: Streams, name: str, _: float = 0.0) -> None:
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


def _pretrained(config: Pretrained, classes: int, *_: Any) -> nn.Module:
    from repro.models.pretrained import PretrainedNet  # which loads torchvision

    return PretrainedNet(config, classes)


_NETWORKS: dict[type, Callable[[Any, int, Streams, str, float], nn.Module]] = {
    MoonsNet: StackedMlp, SmallConv: SmallConvNet, WideResNet: WideResidualNet, ResNet50: ResidualNet50,
    Airbench: AirbenchNet, Pretrained: _pretrained,
}  # fmt: skip
