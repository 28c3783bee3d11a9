"""What the processes of one training agree on besides numbers: that they hold the same state, and when to stop."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from repro.engine.world import World

_SECONDS, _MOST_STEPS = 0.5, 64
"""Between two agreements about stopping, and at most so many steps: each makes the processes wait for one another."""


FAULTY = (
    "look for a device that computes wrongly, or for processes on different versions of PyTorch; "
    "run the same command again to go on from the last saved state"
)


class Differing(RuntimeError):
    """The processes hold different states."""


class Pace:
    """Asks all processes from time to time whether any of them wants something.

    Args:
        world: the processes; one process is asked at every step.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._steps, self._wait, self._since = 0, 1, time.monotonic()

    def wanted(self, wishes: Sequence[bool], last: bool) -> list[bool]:
        """After a step, for each wish whether any process has it; none of them where it is not time to ask.

        Args:
            wishes: of this process, which keep until they are asked for.
            last: whether this is the last step, which is always asked after.
        """
        if self._world.size == 1:
            return list(wishes)
        self._steps += 1
        if self._steps < self._wait and not last:
            return [False] * len(wishes)
        seconds, *found = self._world.most([time.monotonic() - self._since, *wishes])
        steps = int(_SECONDS * self._steps / max(seconds, 1e-9))
        self._steps, self._wait, self._since = 0, max(1, min(_MOST_STEPS, steps)), time.monotonic()
        return [bool(wish) for wish in found]


def require_same(world: World, state: Mapping[str, Tensor], step: int, why: str) -> None:
    """Compares the states of all processes.

    Raises:
        Differing: when step or a tensor is not the same, to the last bit; `why` ends the sentence.
    """
    if world.size == 1:
        return
    mine = {"step": str(step)} | {name: _digest(tensor) for name, tensor in state.items()}
    first, *others = world.all_of(mine)
    for rank, other in enumerate(others, start=1):
        names = [name for name, digest in first.items() if other.get(name) != digest]
        if names:
            where = f"step {other['step']} in place of {first['step']}" if "step" in names else names[0]
            raise Differing(f"process {rank} does not hold the state of process 0 ({where}); {why}")


def _digest(tensor: Tensor) -> str:
    """Of its bits."""
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.blake2b(content.numpy().tobytes(), digest_size=8).hexdigest()
