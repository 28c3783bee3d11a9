"""What a run will cost, from some of its own steps: hours, memory and disk, before any of it begins."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from math import ceil
from statistics import mean, median

import torch
from torch import Tensor

from repro.bench.clock import AT_ONCE, seconds_a_step, seconds_of
from repro.config.methods import TwoPhases
from repro.config.schema import Config
from repro.data.images import ImageFiles
from repro.data.sets import Seeds
from repro.engine.device import choose_device, peak_bytes, set_up_process, worker_pool
from repro.evaluate.cost import files_read, passes_of_evaluation
from repro.evaluate.curve import some_of
from repro.evaluate.predict import Predictor
from repro.train.finetune import finetune
from repro.train.kept import counted, late_steps, networks, snapshot_steps
from repro.train.loop import Trainer

_WARM, _RECORDING, _MOST = 2, 5, 40  # steps before the timed ones, of recorded ones too; and of those
_CHECKPOINTS = 2  # that a state keeps
_FINETUNED = 3  # steps of finetuning that are timed
_EVALUATED = {"cpu": 256, "cuda": 8192}  # examples whose predictions are timed: some passes


@dataclass(frozen=True)
class Probe:
    """What a chunk of seeds takes here while as many train beside it as the run lets."""

    steps: int  # timed
    training: float  # seconds of all steps, and of finetuning
    evaluation: float  # seconds of one process, for one chunk
    peak_bytes: int  # of its process, or of the GPU where there is one
    state_bytes: int  # on disk while a chunk trains: checkpoints, and the weights kept along the way
    kept_bytes: int  # of those, what stays when it is done


@dataclass(frozen=True)
class Cost:
    """What a whole run takes: all its seeds."""

    probe: Probe  # the mean of those side by side
    turns: int  # that it takes until all seeds have trained
    training: float  # seconds
    evaluation: float  # seconds: all seeds of a run are evaluated by one process, one after another
    peak_bytes: int  # of all processes that train side by side
    disk_bytes: int  # at most
    kept_bytes: int  # of those, what stays when all seeds are done


def cost_of(config: Config, seeds: list[int], seconds: float) -> Cost:
    """Probes as many chunks of seeds side by side as would train so, for about `seconds` each.

    Args:
        config: of a run whose data are prepared.
        seeds: of the run.
        seconds: of steps, in each of a run's phases; three steps are taken in any case, of which one is timed.
    """
    budget = config.budget
    chunks = [seeds[i : i + budget.stack] for i in range(0, len(seeds), budget.stack)]
    together, _ = worker_pool(min(budget.workers, len(chunks)))
    with ProcessPoolExecutor(together, multiprocessing.get_context("spawn")) as pool:
        probes = list(pool.map(_probe, [config] * together, chunks[:together], [seconds] * together))
    one = Probe(
        min(probe.steps for probe in probes), mean(probe.training for probe in probes),
        mean(probe.evaluation for probe in probes), max(probe.peak_bytes for probe in probes),
        probes[0].state_bytes, probes[0].kept_bytes,
    )  # fmt: skip
    turns = ceil(len(chunks) / together)
    times = turns * one.training, len(chunks) * one.evaluation
    kept = len(chunks) * one.kept_bytes
    states = one.state_bytes - one.kept_bytes  # which stay until all seeds are done; a new one is written beside them
    working = len(chunks) * states + together * states // _CHECKPOINTS
    return Cost(one, turns, *times, together * one.peak_bytes, kept + working, kept)


def _probe(config: Config, chunk: list[int], seconds: float) -> Probe:
    device = choose_device()
    set_up_process(config.engine.threads)
    seeds: Seeds = chunk if config.budget.stack > 1 else chunk[0]
    trainer = Trainer(config, seeds, device)
    timed, training = 0, 0.0
    for start, count in phases(config):
        trainer.state.step = start
        warm = _RECORDING if config.engine.cuda_graph else _WARM
        begun, took, steps = timed_steps(trainer.advance, min(count, warm + _MOST), seconds, device, warm)
        timed, training = timed + steps, training + begun + (count - min(count, warm)) * median(took)
    if config.finetune.steps:
        _, first, more = (_finetuned(trainer, steps, device) for steps in (1, 1, 1 + _FINETUNED))
        training += first + (config.finetune.steps - 1) * max(0.0, more - first) / _FINETUNED
    kept = networks(trainer.state)
    late = counted(trainer.state.learners[trainer.method.COUNTED])
    stays = (len(snapshot_steps(config.budget.steps, config.budget.snapshots)) + 1) * sum(
        bytes_of(weights.values()) for weights in kept.values()
    ) + len(late_steps(config.budget.steps)) * bytes_of(late.values())
    state = stays + _CHECKPOINTS * bytes_of(trainer.state.state_dict().values())
    return Probe(timed, training, _evaluation(config, seeds, trainer, kept), peak_bytes(device), state, stays)


def _finetuned(trainer: Trainer, steps: int, device: torch.device) -> float:
    """Seconds of so many steps of finetuning, and of what comes before them."""
    trainer.config = replace(trainer.config, finetune=replace(trainer.config.finetune, steps=steps))
    return seconds_of(lambda: finetune(trainer), device)


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Of all tensors together."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def phases(config: Config) -> list[tuple[int, int]]:
    """The first step and the number of steps of each part of a run whose steps cost the same."""
    steps, method = config.budget.steps, config.method
    if isinstance(method, TwoPhases):
        return [(0, method.teacher_steps), (method.teacher_steps, steps - method.teacher_steps)]
    return [(0, steps)]


def timed_steps(
    step: Callable[[], object], most: int, seconds: float, device: torch.device, warm: int = _WARM
) -> tuple[float, list[float], int]:
    """Seconds of the first steps together, in which happens what happens once; of some that follow, and their number.

    Args:
        step: takes one.
        most: steps, the first ones among them.
        seconds: after which no further step is begun; one is timed in any case.
        device: that is waited for, after each step of a CPU and after some of a GPU.
        warm: how many are the first.
    """
    first: list[float] = []
    took: list[float] = []
    steps, begun = 0, time.perf_counter()
    while steps < most and (not took or time.perf_counter() - begun < seconds):
        count = 1 if steps < warm else min(AT_ONCE[device.type], most - steps)
        (first if steps < warm else took).append(seconds_a_step(step, count, device))
        steps += count
    return sum(first), took or first, steps - len(first) if took else steps


def _evaluation(config: Config, seeds: Seeds, trainer: Trainer, kept: dict[str, dict[str, Tensor]]) -> float:
    """Seconds by one thread, from a few training examples; files are read for the curves and for the final networks."""
    torch.set_num_threads(1)
    predictor, examples, lead = Predictor(config, seeds), trainer.data.unlabelled, len(trainer.streams.lead)
    device, total = choose_device(), examples.shape[lead]
    few = min(_EVALUATED[device.type], total)
    some = some_of(examples, lead, slice(few))
    reading = seconds_of(lambda: predictor.held(some, sys.maxsize), device) if isinstance(some, ImageFiles) else 0.0
    images, weights = predictor.held(some, sys.maxsize), next(iter(kept.values()))
    predictor.classes(weights, images)
    passing = seconds_of(lambda: predictor.classes(weights, images), device)
    read, passed = files_read(config, seeds, total), passes_of_evaluation(config, seeds, len(kept), total)
    return (read * reading + passed * passing) / few
