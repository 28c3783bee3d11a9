"""How long a call takes, on a device that may still be busy when the host is done."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from repro.engine.device import finish

AT_ONCE = {"cpu": 1, "cuda": 10}
"""Steps between which nobody waits for the device, as between rows of a log: meanwhile the host runs ahead of it."""


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Of one call, the device waited for before and after it."""
    finish(device)
    started = time.perf_counter()
    call()
    finish(device)
    return time.perf_counter() - started


def seconds_a_step(step: Callable[[], object], steps: int, device: torch.device) -> float:
    """Of so many steps in a row, the device waited for before and after all of them."""
    return seconds_of(lambda: [step() for _ in range(steps)], device) / steps
