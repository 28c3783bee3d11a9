"""What makes several processes, each with its part of the batch, take the step that one would take with all of it."""

from __future__ import annotations

from collections.abc import Iterable

from repro.engine.world import World
from repro.models.joint_norm import Together
from repro.models.layers import BatchNorm
from repro.optim.learner import Learner
from repro.settings import ConfigError


def share(learners: Iterable[Learner], world: World, together: int) -> None:
    """Gives learners the gradients of the whole batch, and their batch norm the statistics of a group of processes.

    Args:
        learners: in their process.
        world: the processes that share the batch; alone, nothing changes.
        together: how many consecutive processes are a group; 0 puts all into one.

    Raises:
        ConfigError: when the groups would not be of equal size.
    """
    if world.size == 1:
        return
    count = together or world.size
    if world.size % count:
        raise ConfigError(
            f"engine.batch_norm_processes = {together}: {world.size} processes cannot be grouped so; set a divisor of "
            f"{world.size}, or 0 for one group"
        )
    group = Together(world.gather, world.rank // count * count, count)
    for learner in learners:
        learner.reduce = world.means
        for layer in learner.model.modules():
            if isinstance(layer, BatchNorm):
                layer.together = group
