"""Metrics between two rows of the log: their means and spreads over the steps, kept on the device."""

from __future__ import annotations

import math

import torch
from torch import Tensor


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
        """A row: the mean over the window's steps and all stacked runs, and for h its spread over steps; then empties.

        Raises:
            NotFinite: when a mean is NaN or infinite, naming the metric and the steps.
        """
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
                raise NotFinite(f"{name} = {row[name]} within the {counts[name]} steps before step {step}; "
                                "lower optim.*.learning_rate, or clip with optim.*.clip_norm")  # fmt: skip
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
