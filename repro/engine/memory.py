"""How much memory there is, and what its end looks like."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

GIB = 2**30

_SIGNS = ("DefaultCPUAllocator", "can't allocate memory", "bad_alloc", "Cannot allocate memory",
          "CUDA error: out of memory", "ALLOC_FAILED")  # fmt: skip


@dataclass(frozen=True)
class Memory:
    """Bytes of a device, or of the share of it that this process may use."""

    total: int
    free: int  # by all processes together


def memory_of(device: torch.device, root: Path = Path("/")) -> Memory | None:
    """Of a GPU, or of this machine as far as a control group lets this process use it; None where nobody says.

    A GPU is asked in a process of its own, since asking takes some of its memory until that process ends.
    """
    if device.type == "cuda":
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            free, total = pool.submit(torch.cuda.mem_get_info).result()
        return Memory(total, free)
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        known = {name: 1024 * int(rest.split()[0]) for name, rest in (line.split(":", 1) for line in lines)}
        found = [Memory(known["MemTotal"], known["MemAvailable"]), *_control_groups(root)]
    except (OSError, ValueError, KeyError, IndexError):
        return None
    return Memory(min(one.total for one in found), min(one.free for one in found))


def _control_groups(root: Path) -> Iterator[Memory]:
    """What each control group above this process allows (version 2, or 1's memory controller)."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in {"", "memory"}:
            continue
        top = root / "sys/fs/cgroup" / controllers
        limit, used = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        )
        folder = top / path.strip("/")
        for place in (folder, *(above for above in folder.parents if above.is_relative_to(top))):
            allowed = _number(place / limit)
            if allowed is not None:
                # Pages of files count as used, and are given back when memory is wanted.
                taken = (_number(place / used) or 0) - _reclaimable(place / "memory.stat")
                yield Memory(allowed, max(0, allowed - taken))


def _number(path: Path) -> int | None:
    """What the file holds; None where it is not there or says "max"."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _reclaimable(path: Path) -> int:
    try:
        pairs = dict(line.split() for line in path.read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(pairs.get("inactive_file", 0)) + int(pairs.get("active_file", 0))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or a CPU, or what was done about that one."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)
    return said or (error.__context__ is not None and is_out_of_memory(error.__context__))
