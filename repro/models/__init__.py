"""Networks: examples [*lead, N, ...] to logits [*lead, N, K]. This file has their settings, and needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from repro.settings import Epsilon, Range, Share, ShareBelowOne, Switch, Text, settings

Takes = tuple[int | None, ...]
"""The shape of one example that a network takes; None stands for any number of pixels."""

_COLOURS: Takes = (3, None, None)


class ModelSettings:
    """What the rest of the project asks the settings of any network."""

    takes: ClassVar[Takes]
    stacks: ClassVar[bool] = False
    """Whether the networks of several seeds can be one stacked model."""

    name: str

    def problems(self, config: Any) -> Iterator[str]:
        """What is not possible together, with each other and with the rest of a `Config`: key, value, remedy."""
        return iter(())


class Activation(StrEnum):
    """Hidden activation of the two-moons net."""

    sigmoid = "sigmoid"
    tanh = "tanh"


@settings
class MoonsNet(ModelSettings):
    """2 -> 8 -> 8 -> 2, fully connected (paper, section 3.1); R nets are trained as one stacked model."""

    takes: ClassVar[Takes] = (2,)
    stacks: ClassVar[bool] = True
    name: Literal["moons_net"] = "moons_net"
    width: Annotated[int, Range(1, 4096)] = 8  # units in each of the two hidden layers
    activation: Activation = Activation.sigmoid
    initial_range: Annotated[float, Range(1e-06, 100)] = 0.1  # weights and biases start uniform in +- this (paper)


@settings
class SmallConv(ModelSettings):
    """Three 3x3 convolutions with batch norm, mean pool, dropout, dense: for 8x8 digits on a CPU."""

    takes: ClassVar[Takes] = (1, 8, 8)
    name: Literal["small_conv"] = "small_conv"
    width: Annotated[int, Range(1, 1024)] = 8  # channels of the first convolution; the others have twice as many
    dropout: ShareBelowOne = 0.2  # before the dense layer


@settings
class WideResNet(ModelSettings):
    """WideResNet-28-2 (Zagoruyko and Komodakis 2016) as in the released code, for 32x32 images."""

    takes: ClassVar[Takes] = _COLOURS
    name: Literal["wide_resnet"] = "wide_resnet"
    depth: Annotated[int, Range(10, 1000)] = 28  # 6 n + 4 convolutions: three groups of n blocks
    width: Annotated[int, Range(1, 64)] = 2  # multiplies 16, 16, 32, 64 channels (the stem's too)
    student_dropout: ShareBelowOne = 0.2  # before the dense layer
    teacher_dropout: ShareBelowOne = 0.2
    leak: Share = 0.2  # slope of the activation below 0
    norm_decay: ShareBelowOne = 0.99  # of batch normalisation's running statistics
    norm_epsilon: Epsilon = 1.0e-3

    def problems(self, config: Any) -> Iterator[str]:
        """The blocks share the depth evenly."""
        if (self.depth - 4) % 6:
            yield f"model.depth = {self.depth}: must be 6 n + 4 with n at least 1, such as 10, 16 or 28"


@settings
class ResNet50(ModelSettings):
    """ResNet-50 (He et al. 2016) as in the released code: stride on the 3x3 convolution."""

    takes: ClassVar[Takes] = _COLOURS
    name: Literal["resnet50"] = "resnet50"
    width: Annotated[int, Range(1, 1024)] = 64  # channels of the stem
    student_dropout: ShareBelowOne = 0.1  # before the dense layer
    teacher_dropout: ShareBelowOne = 0.1
    norm_decay: ShareBelowOne = 0.99
    norm_epsilon: Epsilon = 1.0e-3

    def problems(self, config: Any) -> Iterator[str]:
        """It ends with one value for each channel and image: batch norm finds no variance in a single image."""
        for key in ("labelled_batch", "unlabelled_batch"):
            if getattr(config.budget, key) < 2:
                yield f"budget.{key} = 1: model.name = resnet50 normalises over the batch, so wants at least 2 images"
        if config.engine.channels_last and self.width < 4:
            # https://github.com/uxlfoundation/oneDNN/issues/6035: the backward pass of such a convolution, on a CPU
            yield (f"engine.channels_last = True: with model.width = {self.width} strided 1x1 convolutions have fewer "
                   "than 16 channels, for which oneDNN writes past its memory; set it to false, or the width to at "
                   "least 4")  # fmt: skip


@settings
class Airbench(ModelSettings):
    """A small network that learns fast on a CPU, after airbench (Jordan 2024), for 32x32 images."""

    takes: ClassVar[Takes] = _COLOURS
    name: Literal["airbench"] = "airbench"
    first_width: Annotated[int, Range(24, 1024, "the stem has 24 channels")] = 32  # channels of the first block
    width: Annotated[int, Range(24, 1024)] = 96  # channels of the second and third block
    stem_pool: Switch = False  # whether the stem ends with a 2x2 max pool, which saves half of all arithmetic
    norm_decay: ShareBelowOne = 0.99
    norm_epsilon: Epsilon = 1.0e-3


@settings
class Pretrained(ModelSettings):
    """A network of torchvision or timm that starts from weights in a file: its body pretrained, its head fitted."""

    takes: ClassVar[Takes] = _COLOURS
    name: Literal["pretrained"] = "pretrained"
    library: Literal["torchvision", "timm"] = "torchvision"
    network: Text = "resnet18"  # its name there
    weights: Text = ""  # a safetensors file of all its tensors, head included; empty starts at random
    weights_hash: Text = ""  # SHA-256 of that file; another file is refused
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # of the channels it was trained with, on 0 to 1
    deviation: tuple[float, float, float] = (0.229, 0.224, 0.225)
    head_only: Switch = False  # whether its last layer alone is trained


KINDS: tuple[type[ModelSettings], ...] = (MoonsNet, SmallConv, WideResNet, ResNet50, Airbench)
"""Those whose input's shape says that they fit; `Pretrained` is chosen by name alone."""
Model = Annotated[MoonsNet | SmallConv | WideResNet | ResNet50 | Airbench | Pretrained, Field(discriminator="name")]


def fits(model: type[ModelSettings], shape: tuple[int, ...]) -> bool:
    """Whether a network takes examples of this shape."""
    takes = model.takes
    return len(takes) == len(shape) and all(want in {None, has} for want, has in zip(takes, shape, strict=True))


def fitting(shape: tuple[int, ...]) -> list[str]:
    """The names of the networks that take examples of this shape."""
    return sorted(kind.name for kind in KINDS if fits(kind, shape))
