"""The process and the device: threads, determinism, workers; and a network's memory format and precision there."""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import time
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from repro.settings import Engine, Precision


def choose_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def set_up_process(threads: int = 1) -> None:
    """Sets the threads of this process, deterministic kernels, and float32 products without TF32."""
    torch.set_num_threads(threads)
    # In forward mode PyTorch warns of its own use of a deprecated function.
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # "warn", since CUDA has no deterministic cumulative sum. `use_deterministic_algorithms` does the same, but loads
    # PyTorch's compiler, which costs every stage two seconds.
    torch.set_deterministic_debug_mode("warn")
    # By default each new tensor would be filled with NaN, which costs a CPU 5 % of a step. The tests turn this on: no
    # code may read memory before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def free_processors() -> int:
    """Processors that the load of the last minute leaves free, at least one: more threads take far longer."""
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, (os.cpu_count() or 1) - round(busy))


def finish(device: torch.device) -> None:
    """Waits until a GPU has done all its work; on a CPU there is nothing to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


AT_ONCE = {"cpu": 1, "cuda": 10}
"""Steps timed without a wait for the device, as between two rows of a log: the host runs ahead meanwhile."""


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call; waits for the device before and after it."""
    finish(device)
    started = time.perf_counter()
    call()
    finish(device)
    return time.perf_counter() - started


def seconds_a_step(step: Callable[[], object], steps: int, device: torch.device) -> float:
    """Seconds of a step, over `steps` of them in a row; waits for the device before the first and after the last."""
    return seconds_of(lambda: [step() for _ in range(steps)], device) / steps


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process has taken so far: of the GPU where it uses one, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:  # Linux's own number; that of `getrusage` includes the parent's memory when this process began
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def worker_pool(wanted: int) -> tuple[int, BaseContext]:
    """The number of worker processes and how they start: `wanted` on a CPU; one on a GPU, which allows no fork."""
    if choose_device().type == "cpu":
        return wanted, multiprocessing.get_context("fork")
    return 1, multiprocessing.get_context("spawn")


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, each as CUDA_VISIBLE_DEVICES names it; none on a CPU."""
    if choose_device().type == "cpu":
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return named if named != [""] else [str(number) for number in range(torch.cuda.device_count())]


def describe_device(device: torch.device) -> dict[str, Any]:
    """What a number was computed on."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        known = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
        names = (line.split(":", 1)[1].strip() for line in known if line.startswith("model name"))
        name = next(names, platform.processor() or platform.machine())
    return {"device": device.type, "device_name": name, "processors": os.cpu_count(), "platform": platform.platform()}


def place(model: nn.Module, engine: Engine, device: torch.device) -> nn.Module:
    """Moves the network to its device and gives it the memory format and precision of `engine`.

    Its state dictionary stays float32. In bfloat16 each forward pass is its own region of automatic mixed precision, so
    that no cast weight outlives an update. Logits are float32.
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
