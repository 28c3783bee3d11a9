"""A network on its device: memory format and precision of its passes."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from repro.config.schema import Engine, Precision


def place(model: nn.Module, engine: Engine, device: torch.device) -> nn.Module:
    """The network on its device, in the memory format and precision of `engine`, keeping what it says of a pass.

    Its state dictionary stays as it was, float32. In bfloat16 each forward pass is a region of automatic mixed
    precision of its own, so that no cast of a weight outlives an update; logits come out as float32.
    """
    model = model.to(device)
    if engine.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if engine.channels_last or engine.precision is Precision.bfloat16:
        model.forward = partial(_forward, model.forward, engine, device.type)
    return model


def _forward(forward: Any, engine: Engine, device: str, x: Tensor, noise: Tensor | None = None) -> Tensor:
    if engine.channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    if engine.precision is Precision.float32:
        return forward(x, noise)  # type: ignore[no-any-return]
    with torch.autocast(device, torch.bfloat16):
        logits: Tensor = forward(x, noise)
    return logits.float()
