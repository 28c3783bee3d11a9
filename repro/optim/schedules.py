"""Step to value: pure functions of a step counted from 0.

Of a number each gives a float; of a step on a device a tensor [] there, which a recorded step finds anew each time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from repro.seeding import Step
from repro.settings import Optimiser, Schedule

Value = float | Tensor


def learning_rate(config: Optimiser, step: Step, total_steps: int) -> Value:
    """0 for `wait_steps`; then a linear warm-up; then constant, or half a cosine down to 0 at `total_steps`.

    The warm-up reaches the full rate in its last step: rate * (s + 1) / warmup_steps (released code).
    """
    since = _number(step) - config.wait_steps
    value: Value = config.learning_rate
    if config.schedule is Schedule.cosine:  # computed while the rate waits or rises too: nothing may divide by 0
        span = total_steps - config.warmup_steps - config.wait_steps
        value = config.learning_rate * 0.5 * (1 + _cosine(math.pi * (since - config.warmup_steps) / (span or 1)))
    if config.warmup_steps:
        value = _choose(since < config.warmup_steps, config.learning_rate * (since + 1) / config.warmup_steps, value)
    return _single(_choose(since < 0, 0.0, value) if config.wait_steps else value)


def ramp(step: Step, ramp_steps: int) -> Value:
    """Rises linearly from 0 at step 0 to 1 at `ramp_steps`, then stays."""
    return _single(_smaller(1.0, _number(step) / ramp_steps)) if ramp_steps else 1.0


def average_decay(decay: float, step: Step) -> Value:
    """The decay of the weights' moving average: min(decay, (step + 1) / (step + 10)) (released code)."""
    return _smaller(decay, (_number(step) + 1) / (_number(step) + 10))


def _number(step: Step) -> Value:
    return step.double() if isinstance(step, Tensor) else step


def _single(value: Value) -> Value:
    """What a float32 tensor is multiplied by without becoming float64."""
    return value.float() if isinstance(value, Tensor) else value


def _cosine(angle: Value) -> Value:
    return angle.cos() if isinstance(angle, Tensor) else math.cos(angle)


def _smaller(most: float, value: Value) -> Value:
    return value.clamp(max=most) if isinstance(value, Tensor) else min(most, value)


def _choose(condition: bool | Tensor, chosen: Value, other: Value) -> Value:
    return torch.where(condition, chosen, other) if isinstance(condition, Tensor) else chosen if condition else other
