"""The settings of the networks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

Takes = tuple[int | None, ...]
"""The shape of one example that a network takes; None stands for any number of pixels."""

_COLOURS: Takes = (3, None, None)


class Activation(StrEnum):
    """Hidden activation of the two-moons net."""

    sigmoid = "sigmoid"
    tanh = "tanh"


@dataclass
class MoonsNet:
    """2 -> 8 -> 8 -> 2, fully connected (paper, section 3.1); R nets are trained as one stacked model."""

    takes: ClassVar[Takes] = (2,)
    name: str = "moons_net"
    width: int = 8  # units in each of the two hidden layers
    activation: Activation = Activation.sigmoid
    initial_range: float = 0.1  # weights and biases start uniform in +-initial_range (paper: 0.1)


@dataclass
class SmallConv:
    """Three 3x3 convolutions with batch norm, mean pool, dropout, dense: for 8x8 digits on a CPU."""

    takes: ClassVar[Takes] = (1, 8, 8)
    name: str = "small_conv"
    width: int = 8  # channels of the first convolution; the others have twice as many
    dropout: float = 0.2  # before the dense layer


@dataclass
class WideResNet:
    """WideResNet-28-2 (Zagoruyko and Komodakis 2016) as in the released code, for 32x32 images."""

    takes: ClassVar[Takes] = _COLOURS
    name: str = "wide_resnet"
    depth: int = 28  # 6 n + 4 convolutions: three groups of n blocks
    width: int = 2  # multiplies 16, 16, 32, 64 channels (the stem's too)
    student_dropout: float = 0.2  # before the dense layer
    teacher_dropout: float = 0.2
    leak: float = 0.2  # slope of the activation below 0
    norm_decay: float = 0.99  # of batch normalisation's running statistics
    norm_epsilon: float = 1.0e-3


@dataclass
class ResNet50:
    """ResNet-50 (He et al. 2016) as in the released code: stride on the 3x3 convolution."""

    takes: ClassVar[Takes] = _COLOURS
    name: str = "resnet50"
    width: int = 64  # channels of the stem
    student_dropout: float = 0.1  # before the dense layer
    teacher_dropout: float = 0.1
    norm_decay: float = 0.99
    norm_epsilon: float = 1.0e-3


@dataclass
class Airbench:
    """A small network that learns fast on a CPU, after airbench (Jordan 2024), for 32x32 images."""

    takes: ClassVar[Takes] = _COLOURS
    name: str = "airbench"
    first_width: int = 32  # channels of the first block
    width: int = 96  # channels of the second and third block
    stem_pool: bool = False  # whether the stem ends with a 2x2 max pool, which saves half of all arithmetic
    norm_decay: float = 0.99
    norm_epsilon: float = 1.0e-3


Model = MoonsNet | SmallConv | WideResNet | ResNet50 | Airbench


def fits(model: type[Any], shape: tuple[int, ...]) -> bool:
    """Whether a network takes examples of this shape."""
    takes: Takes = model.takes
    return len(takes) == len(shape) and all(want in {None, has} for want, has in zip(takes, shape, strict=True))
