"""Everything that makes a step fast or puts it on a device; methods know nothing of it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch


def choose_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def set_up_process() -> None:
    """One thread for each process, since runs go side by side; and deterministic kernels."""
    torch.set_num_threads(1)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)  # CUDA has no deterministic cumulated sum


def describe_device(device: torch.device) -> dict[str, Any]:
    """What a number was computed on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {"device": device.type, "device_name": name, "processors": os.cpu_count(), "platform": platform.platform()}


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open() as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
