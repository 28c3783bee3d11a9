"""Everything that makes a step fast or puts it on a device; methods know nothing of it."""

from __future__ import annotations

import multiprocessing
import os
import platform
from functools import partial
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from repro.config.schema import Engine, Precision


def choose_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def set_up_process(threads: int = 1) -> None:
    """`threads` for each process, since runs go side by side; deterministic kernels; float32 that is float32."""
    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # "warn", since CUDA has no deterministic cumulated sum. `use_deterministic_algorithms` would do the same, and load
    # PyTorch's compiler for it, which nothing here uses: two seconds at the start of every stage.
    torch.set_deterministic_debug_mode("warn")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def worker_pool(wanted: int) -> tuple[int, BaseContext]:
    """How many worker processes of the `wanted` ones, and how they start: a GPU takes one and survives no fork."""
    if choose_device().type == "cpu":
        return wanted, multiprocessing.get_context("fork")
    return 1, multiprocessing.get_context("spawn")


def place(model: nn.Module, engine: Engine, device: torch.device) -> nn.Module:
    """The network on its device, in the memory format and precision of `engine`.

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
