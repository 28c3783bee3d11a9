"""NaN and infinity, noticed at each row of the log and before each checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from repro.methods.state import State
from repro.train.metrics import NotFinite, Window


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors with a NaN or an infinity.

    Tensors of one precision go through one call, since PyTorch takes a list of several one by one; the host waits once.
    """
    kinds: dict[torch.dtype, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.numel() and tensor.is_floating_point():
            kinds.setdefault(tensor.dtype, []).append(name)
    if not kinds:
        return []
    norms = [torch._foreach_norm([tensors[name] for name in names], math.inf) for names in kinds.values()]  # noqa: SLF001
    finite = torch.cat([torch.isfinite(torch.stack(list(some))) for some in norms]).tolist()
    found = dict(zip((name for names in kinds.values() for name in names), finite, strict=True))
    return [name for name in tensors if not found.get(name, True)]


def check_finite(state: State, window: Window) -> None:
    """Looks at all weights, averages and momenta, and at the metrics since the last row.

    Raises:
        NotFinite: naming those with a NaN or an infinity.
    """
    sums = {f"the mean of {', '.join(names)}": values for names, _, values in window.state_dict()}
    names = not_finite(state.state_dict() | sums)
    if names:
        others = ", ".join(names[1:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        raise NotFinite(f"{names[0]} is not finite after step {state.step}{f', with {others}' if others else ''}; "
                        "lower optim.*.learning_rate, or clip with optim.*.clip_norm")  # fmt: skip
