"""From a model's settings to a network with reproducible initial weights."""

from __future__ import annotations

from torch import nn

from repro.models import Airbench, Model, MoonsNet, SmallConv, WideResNet
from repro.models.airbench import AirbenchNet
from repro.models.moons_net import StackedMlp
from repro.models.resnet50 import ResidualNet50
from repro.models.small_conv import SmallConvNet
from repro.models.wide_resnet import WideResidualNet
from repro.seeding import Streams


def build_model(config: Model, classes: int, streams: Streams, role: str) -> nn.Module:
    """A network whose initial weights are a function of (seed, role), and whose dropout is its role's.

    `role` is "teacher" or "student". A method that trains a single network gives it one of these roles, so that the
    network UDA trains starts where MPL's teacher starts.
    """
    name = f"init {role}"
    if isinstance(config, MoonsNet):
        return StackedMlp(config, streams, name)
    if isinstance(config, SmallConv):
        return SmallConvNet(config, classes, streams, name)
    if isinstance(config, Airbench):
        return AirbenchNet(config, classes, streams, name)
    rate = config.student_dropout if role == "student" else config.teacher_dropout
    if isinstance(config, WideResNet):
        return WideResidualNet(config, classes, streams, name, rate)
    return ResidualNet50(config, classes, streams, name, rate)
