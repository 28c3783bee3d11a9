"""Networks: examples [*lead, N, ...] to logits [*lead, N, K]. What can be set needs no torch."""

from repro.models.settings import (
    Activation,
    Airbench,
    Model,
    MoonsNet,
    Pretrained,
    ResNet50,
    SmallConv,
    WideResNet,
    fits,
    fitting,
)

__all__ = ["Activation", "Airbench", "Model", "MoonsNet", "Pretrained", "ResNet50", "SmallConv", "WideResNet", "fits",
           "fitting"]  # fmt: skip
