"""How long a call takes, on a device that may still be busy when the host is done."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from repro.engine.device import finish


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Of one call, the device waited for before and after it."""
    finish(device)
    started = time.perf_counter()
    call()
    finish(device)
    return time.perf_counter() - started
