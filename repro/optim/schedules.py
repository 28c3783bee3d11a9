"""Step to value: pure functions of a step counted from 0."""

from __future__ import annotations

import math

from repro.config.schema import Optimiser, Schedule


def learning_rate(config: Optimiser, step: int, total_steps: int) -> float:
    """0 for `wait_steps`; then a linear warm-up; then constant, or half a cosine down to 0 at `total_steps`.

    The warm-up reaches the full rate in its last step: rate * (s + 1) / warmup_steps (released code).
    """
    since = step - config.wait_steps
    if since < 0:
        return 0.0
    if since < config.warmup_steps:
        return config.learning_rate * (since + 1) / config.warmup_steps
    if config.schedule is Schedule.constant:
        return config.learning_rate
    span = total_steps - config.warmup_steps - config.wait_steps
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (since - config.warmup_steps) / span))


def ramp(step: int, ramp_steps: int) -> float:
    """Rises linearly from 0 at step 0 to 1 at `ramp_steps`, then stays."""
    return min(1.0, step / ramp_steps) if ramp_steps else 1.0


def average_decay(decay: float, step: int) -> float:
    """The decay of the weights' moving average: min(decay, (step + 1) / (step + 10)) (released code)."""
    return min(decay, (step + 1) / (step + 10))
