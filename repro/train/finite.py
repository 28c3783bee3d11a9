"""NaN and infinity: noticed at each row of the log, then traced to the step and the term that went first.

Looking at every step would make the host wait for a GPU. So the state of the last row is kept, and the few steps since
are trained again, one by one: every draw is a function of its step, so they come out as they did.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from repro.methods.state import State
from repro.train.metrics import NotFinite, Window

_ORDER = ("teacher_labelled_loss", "labelled_loss", "uda_loss", "unlabelled_loss", "pseudo_label_loss", "student_loss",
          "student_labelled_loss", "noise_floor", "feedback", "feedback_gradient_norm")  # fmt: skip
"""In which a step computes them."""

_REMEDY = "lower optim.*.learning_rate, or clip with optim.*.clip_norm"


@dataclass(frozen=True)
class Copy:
    """Of everything that the next step depends on."""

    step: int
    tensors: dict[str, Tensor]
    window: list[tuple[list[str], int, Tensor]]


def copy_of(state: State, window: Window) -> Copy:
    """A copy on the same device."""
    tensors = {key: value.detach().clone() for key, value in state.state_dict().items()}
    return Copy(state.step, tensors, [(names, count, sums.clone()) for names, count, sums in window.state_dict()])


def restore(copy: Copy, state: State, window: Window) -> None:
    """Puts the copy back; it can be put back again."""
    state.load_state_dict(copy.tensors, copy.step)
    window.load_state_dict([(n, c, s.clone()) for n, c, s in copy.window], next(iter(copy.tensors.values())).device)


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors with a NaN or an infinity."""
    by_name = {name: tensor for name, tensor in tensors.items() if tensor.numel() and tensor.is_floating_point()}
    norms = torch._foreach_norm(list(by_name.values()), math.inf)  # noqa: SLF001 - one call for all
    finite = torch.isfinite(torch.stack([norm.double() for norm in norms])).tolist()
    return [name for name, is_finite in zip(by_name, finite, strict=True) if not is_finite]


def check_finite(state: State, window: Window) -> None:
    """Looks at all weights, averages and momenta, and at the metrics since the last row.

    Raises:
        NotFinite: naming those with a NaN or an infinity.
    """
    sums = {f"the mean of {', '.join(names)}": values for names, _, values in window.state_dict()}
    names = not_finite(state.state_dict() | sums)
    if names:
        raise NotFinite(f"{names[0]} is not finite after step {state.step}{_others(names)}; {_REMEDY}")


def trace(
    state: State, window: Window, good: Copy, step: Callable[[], dict[str, Tensor]], seen: NotFinite
) -> NotFinite:
    """What to raise instead of `seen`; leaves the state before the first bad step.

    Args:
        state: of the training, after a bad step.
        window: its metrics.
        good: an earlier, finite state.
        step: trains one step.
        seen: what was noticed.
    """
    until = state.step
    restore(good, state, window)
    metrics: dict[str, Tensor] = {}
    while state.step < until:
        before, earlier = copy_of(state, window), metrics
        metrics = step()
        terms = [name for name in _ORDER if name in metrics and not bool(torch.isfinite(metrics[name]).all())]
        terms += sorted(name for name, value in metrics.items() if name not in _ORDER and not _is_finite(value))
        weights = not_finite(state.state_dict())
        if terms or weights:
            found = NotFinite(_describe(before, terms, weights, metrics, earlier))
            restore(before, state, window)
            return found
    restore(good, state, window)
    return NotFinite(f"{seen}. Trained again from step {good.step}, the same steps were finite: this machine does not "
                     "compute the same twice, so look for a faulty or overheated device")  # fmt: skip


def _describe(
    before: Copy, terms: list[str], weights: list[str], metrics: dict[str, Tensor], earlier: dict[str, Tensor]
) -> str:
    sizes = {name: float(tensor.abs().max()) for name, tensor in before.tensors.items() if ".model." in name}
    largest = max(sizes, key=lambda name: sizes[name])
    state = f"the weights before it were finite, the largest {sizes[largest]:.1e} in {largest}"
    if not terms:
        return (f"{weights[0]} became NaN or infinite in step {before.step}, while every loss was finite"
                f"{_others(weights)}; {state}; {_REMEDY}")  # fmt: skip
    first = terms[0]
    was = f" ({_value(earlier[first])} in the step before)" if first in earlier else ""
    return f"{first} = {_value(metrics[first])} in step {before.step}{was}{_others(terms)}; {state}; {_REMEDY}"


def _is_finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def _value(metric: Tensor) -> str:
    """Of one run, or of the first stacked run that is not finite."""
    bad = metric.flatten()[~torch.isfinite(metric.flatten())]
    return f"{float(bad[0] if len(bad) else metric.flatten().mean()):.4g}"


def _others(names: list[str]) -> str:
    listed = ", ".join(names[1:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f", with {listed}" if listed else ""
