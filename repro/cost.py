"""What a plan takes on this machine, found by some steps of each of its runs: hours, memory, disk.

    repro plan                       the plan in params.yaml
    repro plan digits                a plan by its name or file
    repro plan cifar10_paper_mpl     runs, one seed each

Each run trains for a moment as it would, with as many seeds at once, on its own data, which are prepared first.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor

from repro.config import Config, as_mapping
from repro.engine.device import (
    AT_ONCE,
    choose_device,
    describe_device,
    peak_bytes,
    seconds_a_step,
    seconds_of,
    set_up_process,
    worker_pool,
)
from repro.files import plan_path
from repro.plan import Plan, PlannedRun, compose, read_plan
from repro.settings import ConfigError
from repro.train.job import Job, jobs_of
from repro.train.kept import counted, late_steps, networks, snapshot_steps
from repro.train.loop import Trainer, finetune
from repro.train.prepare import with_prepared_data

_WIDTHS = (5, 11, 9, 9, 10, 10)


def measured(arguments: argparse.Namespace) -> None:
    """Prints a row as soon as a run is measured, then what all take."""
    plan = planned(arguments.what or ["params.yaml"])
    configs = [compose(one.name, one.overrides) for one in plan.runs]
    device = describe_device(choose_device())["device_name"]
    print(f"{plan.name}: {len(plan.runs)} runs, some steps of each, on {device}")
    print(_row("run", "seeds", "steps", "s a step", "training", "memory", "disk"), flush=True)
    costs: list[Cost] = []
    prepared: set[tuple[str, ...]] = set()
    for one, config in zip(plan.runs, configs, strict=True):
        try:
            (ready,) = with_prepared_data([config], prepared)
            cost = cost_of(ready, list(one.seeds), arguments.seconds)
        except (ValueError, OSError, RuntimeError) as error:  # no data, no memory, a worker that was killed
            print(f"{one.name:42} cannot be measured: {error}", flush=True)
            continue
        costs.append(cost)
        print(_row(one.name, str(len(one.seeds)), f"{config.budget.steps:,}", f"{cost.step:.4f}", *cost.in_words()),
              flush=True)  # fmt: skip
    if not costs:
        raise ConfigError("no run could be measured; the rows above say why")
    print(_row("all, one run after another", "", "", "", *cost_of_all(costs).in_words()))
    missing = len(plan.runs) - len(costs)
    print(
        "\nEvaluation comes on top: minutes, beside hours of training. Memory: of the processes that train side by\n"
        "side, at their peak. Disk: artifacts/ and state/; what results/ keeps is small."
        + (f" {missing} of the runs are not in the sum." if missing else "")
    )


TIMES = Path("results/gpu/times.json")
TIMED = {"paper": "cifar10_paper_mpl", "released": "cifar10_released_mpl", "small": "cifar10_small_mpl"}
"""The runs a step of which `experiments/gpu/check.py times` times, by what they are called in its file."""


def hours(path: Path, seeds: Mapping[str, int], gpus: bool, seconds: float = 3.0) -> None:
    """Prints what so many seeds or stacks of each run take on 1, 8 or 64 devices, by steps timed here or in `TIMES`."""
    each: list[float] = []
    elsewhere = gpus and choose_device().type == "cpu"
    there: dict[str, Any] = json.loads(TIMES.read_bytes()) if elsewhere and TIMES.is_file() else {"found": []}
    timed = {row["what"]: row["ms"] / 1000 for row in there["found"] if "ms" in row}
    alike = [(what_a_step_does(compose(run)), name) for name, run in TIMED.items()] if timed else []
    for one in (one for one in read_plan(path).runs if seeds.get(one.name)):
        config, count = compose(one.name, one.overrides), seeds[one.name]
        if not elsewhere:
            (config,) = with_prepared_data([config])
            each += [cost_of(config, list(one.seeds[: config.budget.stack]), seconds).training] * count
            continue
        way = "recorded" if config.engine.cuda_graph or config.engine.fastest else "taken"
        name = next((name for does, name in alike if does == what_a_step_does(config)), "")
        if step := timed.get(f"{name}: {way}"):
            each += [step * config.budget.steps] * count
            print(f"{one.name}: {count} seeds of {config.budget.steps:,} steps of {1000 * step:.1f} ms")
        else:
            print(f"{one.name}: nothing like its step was timed on a GPU, so it is not in the sum; for its hours, type "
                  "this where there is a GPU")  # fmt: skip
    if not each:
        return
    what, device = "some steps of each run", describe_device(choose_device())["device_name"]
    if elsewhere:
        what, device = f"{TIMES}, without finetuning and evaluation", there["environment"]["device_name"]
    print(f"An estimate, from {what}, on {device}: {sum(each) / 3600:,.1f} device hours")
    for devices in (1, 8, 64):
        print(f"  on {devices:2} at once: {duration(last_end(each, devices))}")


def what_a_step_does(config: Config) -> tuple[object, ...]:
    """What decides how long a step takes: views, network, batches, precision, and which parts of the method are on."""

    def on(part: Mapping[str, Any]) -> dict[str, object]:
        """The choices as they are, and of numbers whether they are 0."""
        wanted = ((key, value) for key, value in part.items() if key not in _COST_NOTHING)
        return {k: on(v) if isinstance(v, dict) else v if isinstance(v, str) else bool(v) for k, v in wanted}

    budget = config.budget
    return (on(as_mapping(config.method)), config.model, config.data.shape, getattr(config.data, "views", None),
            budget.labelled_batch, budget.unlabelled_batch, budget.stack, config.engine.precision)  # fmt: skip


_COST_NOTHING = {"feedback_sign", "baseline", "baseline_rate", "pseudo_label"}
"""Choices of a method whose steps all cost the same."""


def last_end(each: Sequence[float], devices: int) -> float:
    """Seconds until all are done, each begun, in this order, on the first device that is free."""
    ends = [0.0] * devices
    for seconds in each:
        heapq.heapreplace(ends, ends[0] + seconds)
    return max(ends)


def planned(what: list[str]) -> Plan:
    """A plan by its name or file, or one of runs by their names, a seed each."""
    path = Path(plan_path(what[0]))
    if len(what) == 1 and (path.suffix == ".yaml" or path.is_file()):
        return read_plan(path)
    return Plan("by name", tuple(PlannedRun(name, (), (0,)) for name in what), needs_gpu=False)


def duration(seconds: float) -> str:
    """In the unit that a person would choose."""
    for unit, length, below in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 72)):
        if seconds < below * length:
            return f"{seconds / length:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86_400:,.1f} days"


def _row(name: str, *cells: str) -> str:
    return f"{name:42}" + "".join(f" {cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))


_WARM, _RECORDING, _MOST = 2, 5, 40  # steps before the timed ones, of recorded ones too; and of those
_CHECKPOINTS = 2  # that a state keeps
_FINETUNED = 3  # steps of finetuning that are timed


@dataclass(frozen=True)
class Cost:
    """What seeds take that train as one, or a whole run."""

    step: float  # seconds of one, on average over a training; finetuning is counted in
    training: float  # seconds
    peak_bytes: int  # of all processes that train side by side, or of the GPU where there is one
    disk_bytes: int  # at most: checkpoints, and the weights kept along the way
    kept_bytes: int  # of those, what stays when all seeds are done

    def in_words(self) -> tuple[str, ...]:
        """Training, memory, disk."""
        sizes = (f"{count / 2**30:,.2f} GiB" for count in (self.peak_bytes, self.disk_bytes))
        return duration(self.training), *sizes


def cost_of_all(costs: list[Cost]) -> Cost:
    """Of runs that train one after another."""
    kept = sum(cost.kept_bytes for cost in costs)
    more = max(cost.disk_bytes - cost.kept_bytes for cost in costs)
    return Cost(
        math.nan, sum(cost.training for cost in costs), max(cost.peak_bytes for cost in costs), kept + more, kept
    )


def cost_of(config: Config, seeds: list[int], seconds: float) -> Cost:
    """What all seeds of a run take, of which as many as train side by side do for about `seconds` in each phase."""
    jobs = jobs_of("", config, Path(), seeds)
    side_by_side, _ = worker_pool(min(config.budget.workers, len(jobs)))
    with ProcessPoolExecutor(side_by_side, multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(_cost_of_job, jobs[:side_by_side], [seconds] * side_by_side))
    kept = len(jobs) * found[0].kept_bytes
    states = found[0].disk_bytes - found[0].kept_bytes  # they stay until all seeds are done
    new_ones = side_by_side * states // _CHECKPOINTS  # written beside the others
    return Cost(
        mean(cost.step for cost in found),
        math.ceil(len(jobs) / side_by_side) * mean(cost.training for cost in found),
        side_by_side * max(cost.peak_bytes for cost in found), kept + len(jobs) * states + new_ones, kept,
    )  # fmt: skip


def _cost_of_job(job: Job, seconds: float) -> Cost:
    device, config, steps = choose_device(), job.config, job.config.budget.steps
    set_up_process(config.engine.threads)
    trainer = Trainer(config, job.trained_as, device)
    trainer.steps.choose("", lambda _: None)
    warm, training = _RECORDING if config.engine.cuda_graph else _WARM, 0.0
    for start, count in phases(config):
        trainer.state.step = start
        training += seconds_of_phase(trainer.advance, count, seconds, device, warm)
    if config.finetune.steps:
        took = []
        for some in (1, 1, 1 + _FINETUNED):  # the first one is slower
            trainer.config = replace(config, finetune=replace(config.finetune, steps=some))
            took.append(seconds_of(lambda: finetune(trainer), device))
        training += took[1] + (config.finetune.steps - 1) * max(0.0, took[2] - took[1]) / _FINETUNED
    one = sum(bytes_of(weights) for weights in networks(trainer.state).values())
    counts = bytes_of(counted(trainer.state.learners[config.method.networks[-1]]))
    late = len(late_steps(steps, config.budget.late)) * counts
    stays = (len(snapshot_steps(steps, config.budget.snapshots)) + 1) * one + late
    disk = stays + _CHECKPOINTS * bytes_of(trainer.state.state_dict())
    return Cost(training / steps, training, peak_bytes(device), disk, stays)


def phases(config: Config) -> list[tuple[int, int]]:
    """First step and number of steps of each part of a run whose steps cost the same."""
    steps, teaching = config.budget.steps, config.method.fixed_teacher_steps
    return [(0, teaching), (teaching, steps - teaching)] if teaching else [(0, steps)]


def seconds_of_phase(
    step: Callable[[], object], count: int, seconds: float, device: torch.device, warm: int = _WARM
) -> float:
    """Seconds of `count` steps: of the `warm` ones, in which happens what happens once, and the median of some others.

    After `seconds` no further step is begun; the device is waited for, after each step of a CPU and some of a GPU.
    """
    took: list[float] = []
    begun, left = time.perf_counter(), min(count - warm, _MOST)
    first = sum(seconds_a_step(step, 1, device) for _ in range(min(warm, count)))
    while left > 0 and (not took or time.perf_counter() - begun < seconds):
        some = min(AT_ONCE[device.type], left)
        took.append(seconds_a_step(step, some, device))
        left -= some
    return first + ((count - warm) * median(took) if took else 0)


def bytes_of(tensors: Mapping[str, Tensor]) -> int:
    """Of all tensors together."""
    return sum(tensor.nbytes for tensor in tensors.values())
