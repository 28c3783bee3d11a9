"""How the processes of one training find one another, through PyTorch's own distribution.

`torchrun` or a batch system starts them and says in the environment who they are: WORLD_SIZE, RANK, LOCAL_RANK,
MASTER_ADDR, MASTER_PORT. Tensors travel by NCCL between GPUs and by gloo between CPUs, agreements always by gloo.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from repro.engine.world import ALONE, World, or_gone

PATIENCE = timedelta(minutes=10)
"""How long a process waits for another that is there and does not answer. One that died is noticed at once.

It must be longer than the first process takes to save a state, for which the others wait.
"""


@contextlib.contextmanager
def connected() -> Iterator[World]:
    """The processes that the environment names, until the block ends; one without it.

    Raises:
        ValueError: when the environment is incomplete, or this machine has fewer GPUs than processes.
        Gone: when not all processes arrive.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ValueError(f"WORLD_SIZE = {size}: {', '.join(missing)} are not set; start the processes with torchrun")
    with or_gone():
        store, rank, _ = next(iter(rendezvous("env://", timeout=PATIENCE)))
        dist.init_process_group(_backend(), store=store, rank=rank, world_size=size, timeout=PATIENCE)
        agreements = dist.new_group(backend="gloo", timeout=PATIENCE)
    yield World(rank, size, store, agreements)
    dist.destroy_process_group()


def _backend() -> str:
    """NCCL, once this process has its GPU; gloo without any."""
    if not torch.cuda.is_available():
        return "gloo"
    local, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= there:
        raise ValueError(f"LOCAL_RANK = {local}: this machine has {there} GPUs; set --nproc-per-node {there}")
    torch.cuda.set_device(local)
    return "cpu:gloo,cuda:nccl"
