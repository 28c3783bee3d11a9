"""Metrics between two rows of the log, kept on the device; checks for NaN; a row as a line of text."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from repro.methods.state import State

_REMEDY = "lower optim.*.learning_rate, or clip with optim.*.clip_norm"


class NotFinite(RuntimeError):
    """A metric became NaN or infinite."""


class Window:
    """Sums metrics [*lead] over steps without waiting for the device."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}  # names of metrics that come together -> [2, metrics, *lead]
        self._counts: dict[tuple[str, ...], int] = {}

    def add(self, metrics: dict[str, Tensor]) -> None:
        """One step's metrics; a metric may be absent from some steps."""
        names = tuple(metrics)
        values = torch.stack(list(metrics.values())).to(torch.float64)
        if names not in self._sums:
            self._sums[names] = values.new_zeros(2, *values.shape)
            self._counts[names] = 0
        self._sums[names][0] += values
        self._sums[names][1].addcmul_(values, values)
        self._counts[names] += 1

    def close(self, step: int) -> dict[str, float]:
        """A row: means over the window's steps and all stacked runs, and h's spread over steps. Empties the window."""
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        for names, moments in self._sums.items():
            for i, name in enumerate(names):
                sums[name] = sums.get(name, 0) + moments[:, i]
                counts[name] = counts.get(name, 0) + self._counts[names]
        self._sums, self._counts = {}, {}
        row: dict[str, float] = {}
        for name, total in sums.items():
            mean, square = total / counts[name]
            row[name] = float(mean.mean())
            if not math.isfinite(row[name]):
                raise NotFinite(f"{name} = {row[name]} within the {counts[name]} steps before step {step}; {_REMEDY}")
            if name == "feedback":
                row["feedback_spread"] = float((square - mean * mean).clamp_min(0).sqrt().mean())
                row["feedback_positive"] = float((mean > 0).to(torch.float64).mean())
        return row

    def state_dict(self) -> list[tuple[list[str], int, Tensor]]:
        """For a checkpoint in the middle of a window."""
        return [(list(names), self._counts[names], sums) for names, sums in self._sums.items()]

    def load_state_dict(self, state: list[tuple[list[str], int, Tensor]], device: torch.device) -> None:
        """The inverse of `state_dict`."""
        self._counts = {tuple(names): count for names, count, _ in state}
        self._sums = {tuple(names): sums.to(device) for names, _, sums in state}


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors with a NaN or an infinity.

    Each precision has a call of its own, since PyTorch takes a list of mixed ones one by one; the host waits once.
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
    """Raises NotFinite where weights, averages, momenta or the metrics since the last row hold a NaN or an infinity."""
    sums = {f"the mean of {', '.join(names)}": values for names, _, values in window.state_dict()}
    if names := not_finite(state.state_dict() | sums):
        others = ", ".join(names[1:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        said = f"{names[0]} is not finite after step {state.step}{f', with {others}' * bool(others)}; {_REMEDY}"
        raise NotFinite(said)


_LOSSES = {
    "labelled_loss": "labelled",
    "teacher_labelled_loss": "teacher labelled",
    "unlabelled_loss": "unlabelled",
    "uda_loss": "UDA",
    "pseudo_label_loss": "pseudo label",
    "student_loss": "student",
    "student_labelled_loss": "student labelled",
}


def line(name: str, row: Mapping[str, float], steps: int) -> str:
    """`name: step 200 of 300000; losses: student 1.92, UDA 0.31; 43.1 % of pseudo labels wrong; h +1.2e-03 ± 4.0e-03`.

    `row` is one of metrics.csv: means over the steps since the row before; `steps` are those of the whole run.
    """
    losses = [f"{words} {row[key]:.3f}" for key, words in _LOSSES.items() if key in row]
    parts = [f"losses: {', '.join(losses)}"] if losses else []
    if "pseudo_label_wrong" in row:
        parts.append(f"{100 * row['pseudo_label_wrong']:.1f} % of pseudo labels wrong")
    if "feedback" in row:
        parts.append(f"h {row['feedback']:+.1e} ± {row['feedback_spread']:.1e}")
    if row.get("noise_floor"):
        parts.append(f"of which noise {row['noise_floor']:+.1e}")
    return f"{name}: step {row['step']:.0f} of {steps}; {'; '.join(parts)}"
