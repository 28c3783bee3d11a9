"""From a model's settings to a network with reproducible initial weights."""

from __future__ import annotations

from torch import nn

from repro.config.models import MoonsNet
from repro.models.moons_net import StackedMlp
from repro.models.small_conv import SmallConvNet
from repro.seeding import Streams


def build_model(config: Model, classes: int, streams: Streams, role: str) -> nn.Module:
    """A network whose initial weights are a function of (seed, role).

    `role` is "teacher" or "student". A method that trains a single network gives it one of these roles, so that the
    network UDA trains starts where MPL's teacher starts.
    """
    if isinstance(config, MoonsNet):
        return StackedMlp(config, streams, f"init {role}")
    return SmallConvNet(config, classes, streams, f"init {role}")
