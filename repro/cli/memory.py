"""What a run needs of memory beside what there is: said before it starts, refused where it can never fit."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from repro.config.read import ConfigError
from repro.config.schema import Config
from repro.engine.device import choose_device
from repro.engine.memory import memory_of
from repro.train.memory import bytes_needed
from repro.train.remedies import fitting, size


def say_what_is_needed(name: str, config: Config, processes: int, side_by_side: int = 1, sharing: int = 1) -> None:
    """One line before a run starts in so many processes, with what to change where that is more than is free.

    Args:
        name: of the run.
        config: its settings.
        processes: on this machine, or on one of its GPUs.
        side_by_side: trainings in each of them.
        sharing: how many processes on all machines share every batch.

    Raises:
        ConfigError: when it is more than the whole machine, or the share of it that may be used, has.
    """
    remedy = partial(_remedy, config, processes, side_by_side, sharing)
    need, there = bytes_needed(_part(config, sharing), side_by_side), memory_of(choose_device())
    said = f"{name}: needs about {size(need)}" + (f" in each of {processes} processes" if processes > 1 else "")
    said += f", for {side_by_side} trainings side by side" if side_by_side > 1 else ""
    if there is None:
        print(said)
    elif processes * need <= there.free:
        print(f"{said}, {size(there.free)} are free")
    elif processes * need <= there.total:
        print(f"WARNING {said}, and only {size(there.free)} are free; {remedy(there.free)}")
    else:
        raise ConfigError(f"{said}, and there are {size(there.total)}; {remedy(there.total)}")


def _part(config: Config, sharing: int) -> Config:
    """The settings of one process's part of every batch; finetuning is computed whole in each."""
    budget = config.budget
    labelled, unlabelled = (max(1, batch // sharing) for batch in (budget.labelled_batch, budget.unlabelled_batch))
    return replace(config, budget=replace(budget, labelled_batch=labelled, unlabelled_batch=unlabelled))


def _remedy(config: Config, processes: int, side_by_side: int, sharing: int, room: int) -> str:
    if sharing == 1:
        return fitting(config, processes, side_by_side, room)
    return "start more processes, set engine.recompute=true or a higher engine.micro_batches, or take smaller batches"
