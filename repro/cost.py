"""What a plan takes on this machine, found by some steps of each of its runs: hours, memory, disk.

    repro plan                             the plan in params.yaml
    repro plan experiments/plan/digits.yaml
    repro plan cifar10_paper_mpl ...       experiments, one seed each

Each run trains for a moment as it would, with as many seeds at once, on its own data, which are prepared first
where they are not; nothing else is kept.
`repro plan --arithmetic` counts the arithmetic instead, which wants no data.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from statistics import mean, median

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from repro.bench.measure import AT_ONCE, seconds_a_step, seconds_of
from repro.config import Config
from repro.data import Data, source_of
from repro.data.images import ImageFiles
from repro.data.sets import Seeds
from repro.engine.device import choose_device, describe_device, peak_bytes, set_up_process, worker_pool
from repro.evaluate.evaluate import processes, some_of
from repro.evaluate.predict import Predictor
from repro.methods import PseudoLabelMethod, method_of
from repro.methods.state import Batch, State
from repro.models.networks import build_model
from repro.plan import Plan, PlannedRun, compose, read_plan
from repro.seeding import Draws, Streams
from repro.settings import ConfigError
from repro.train.kept import counted, late_steps, networks, snapshot_steps
from repro.train.loop import Trainer, finetune

_WIDTHS = (5, 11, 6, 9, 9, 11, 10, 10)


def measured(arguments: argparse.Namespace) -> None:
    """Prints a row as soon as a run is probed, then what all take."""
    plan = planned(arguments.what or ["params.yaml"])
    configs = [compose(one.name, one.overrides) for one in plan.runs]
    device = choose_device()
    print(f"{plan.name}: {len(plan.runs)} runs, some steps of each, on {describe_device(device)['device_name']}")
    print(_row("run", "seeds", "steps", "timed", "s a step", "training", "evaluating", "memory", "disk"), flush=True)
    costs = []
    for one, config in zip(plan.runs, configs, strict=True):
        try:
            source_of(config.data).prepare()
            config.data = source_of(config.data).settled()
            cost = cost_of(config, list(one.seeds), arguments.seconds)
        except (ValueError, OSError, RuntimeError) as error:  # no data, no memory, a worker that was killed
            print(f"{one.name:42} cannot be probed: {error}", flush=True)
            continue
        costs.append(cost)
        print(_cells(one.name, len(one.seeds), config.budget.steps, cost), flush=True)
    _print_all(len(plan.runs) - len(costs), costs)


def _cells(name: str, seeds: int, steps: int, cost: Cost) -> str:
    one = cost.probe
    return _row(name, str(seeds), f"{steps:,}", str(one.steps), f"{one.training / steps:.3f}", duration(cost.training),
                duration(cost.evaluation), size(cost.peak_bytes), size(cost.disk_bytes))  # fmt: skip


def _print_all(missing: int, costs: list[Cost]) -> None:
    if not costs:
        return
    training, peak = sum(cost.training for cost in costs), max(cost.peak_bytes for cost in costs)
    evaluating = together([cost.evaluation for cost in costs])
    kept = sum(cost.kept_bytes for cost in costs)
    working = max(cost.disk_bytes - cost.kept_bytes for cost in costs)
    print(_row("all, one run after another", "", "", "", "", duration(training), duration(evaluating), size(peak),
               size(kept + working)))  # fmt: skip
    print(
        "\n`all` are evaluated side by side. Memory: of the processes that train side by side, at their peak.\n"
        "Disk: artifacts/ and state/; what results/ keeps is small. Verdicts and report take a minute."
        + (f" {missing} of the runs are not in the sum." if missing else "")
    )


def together(evaluations: list[float]) -> float:
    """Seconds of evaluating all runs, as many at once as `repro.evaluate.evaluate` takes."""
    workers, _ = worker_pool(processes(len(evaluations)))
    return max(*evaluations, sum(evaluations) / workers)


def size(count: int) -> str:
    """Bytes in words."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def duration(seconds: float) -> str:
    """In the unit that a person would choose."""
    for unit, length, below in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 72)):
        if seconds < below * length:
            return f"{seconds / length:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86_400:,.1f} days"


def _row(name: str, *cells: str) -> str:
    return f"{name:42}" + "".join(f" {cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))


EXIT_NEEDS_GPU = 3

_DAY = 86_400
_cost_WIDTHS = (5, 9, 13, 12, 8, 9)


def priced(arguments: argparse.Namespace) -> int:
    """Prints a table; returns 3 when the plan needs a GPU and there is none, so that a caller can stop."""
    plan = planned(arguments.what or ["params.yaml"])
    refused = plan.needs_gpu and choose_device().type == "cpu"
    if arguments.if_refused and not refused:
        return 0
    _print_costs(plan)
    if refused:
        print(f"\nPlan {plan.name} needs a GPU, and PyTorch finds none here, so it is not started.")
        print(f"On a machine with one: make reproduce PLAN={plan.name}")
        print("On this one: make reproduce (plan quick), or a plan of your own that shortens its runs "
              "(overrides: [budget.shortened_to=...]) and does not say `needs: gpu`.")  # fmt: skip
    return EXIT_NEEDS_GPU if refused else 0


def planned(what: list[str]) -> Plan:
    """A plan by its file, or one of single experiments, a seed each."""
    if len(what) == 1 and (what[0].endswith(".yaml") or Path(what[0]).is_file()):
        return read_plan(Path(what[0]))
    return Plan("of single experiments", tuple(PlannedRun(name, (), (0,)) for name in what), needs_gpu=False)


def _print_costs(plan: Plan) -> None:
    set_up_process(_threads())
    configs = [(one, compose(one.name, one.overrides)) for one in plan.runs]
    priced = [(one, config) for one, config in configs if _is_priced(config.data)]
    if not priced:
        raise ConfigError(
            f"plan {plan.name}: its runs are not counted: they take minutes on a CPU, or are on a folder whose classes "
            "nobody has counted yet"
        )
    speed = flops_per_second(priced[-1][1])
    print(_cost_row("run", "seeds", "steps", "images a step", "TFLOP a step", "EFLOP", "days here"))
    total = 0.0
    for one, config in priced:
        once = run_flops(config)
        flops = once * len(one.seeds)
        total += flops
        days = f"{flops / speed / _DAY:,.1f}"
        print(_cost_row(one.name, str(len(one.seeds)), f"{config.budget.steps:,}", _images(config),
                   f"{once / config.budget.steps / 1e12:.3f}", f"{flops / 1e18:.2f}", days))  # fmt: skip
    device = describe_device(torch.device("cpu"))
    print(_cost_row("all", "", "", "", "", f"{total / 1e18:.2f}", f"{total / speed / _DAY:,.1f}"))
    print(
        f"\nEFLOP: 1e18 floating-point operations of convolutions and matrix products, forward and backward, all seeds."
        f"\nDays here: at {speed / 1e9:,.0f} GFLOP/s in float32, timed just now in one small step on "
        f"{device['device_name']}, {_threads()} threads. A GPU that sustains 100 TFLOP/s would need "
        f"{total / 1e14 / _DAY:,.1f} days for the arithmetic; augmentation, memory traffic and evaluation come on top."
    )


def _is_priced(data: Data) -> bool:
    """Whether a run is worth counting, and its network known: a folder's classes may not be, before it is prepared."""
    return data.shape[0] == 3 and source_of(data).classes > 0


def _cost_row(name: str, *cells: str) -> str:
    return f"{name:42}" + "".join(f" {cell:>{width}}" for cell, width in zip(cells, _cost_WIDTHS, strict=True))


def _threads() -> int:
    return os.cpu_count() or 1


def _images(config: Config) -> str:
    unlabelled = config.budget.unlabelled_batch if config.method.name != "supervised" else 0
    return f"{config.budget.labelled_batch} + {unlabelled}"


_FEW, _MORE = 2, 4  # images of the batches whose arithmetic is counted


def run_flops(config: Config) -> float:
    """Floating-point operations of a whole run of one seed; a fixed teacher and its student train in turn."""
    steps, method = config.budget.steps, config.method
    if isinstance(method, PseudoLabelMethod):
        teaching = method.teacher_steps * step_flops(config, 0)
        return teaching + (steps - method.teacher_steps) * step_flops(config, steps - 1)
    return steps * step_flops(config, steps - 1)


def step_flops(config: Config, step: int) -> float:
    """Floating-point operations of one step at the configured batch sizes, a multiplication and an addition being two.

    Convolutions and matrix products of all passes, forward and backward, counted while small steps run on tensors
    without data: one with a few labelled and unlabelled images, one with more of each. A step's arithmetic is linear in
    both.
    """
    state = _fresh(config, "meta")
    state.step = step
    _step(config, state, _FEW, _FEW)  # what happens once in a run is not counted
    state.step = step
    base = _count(config, state, _FEW, _FEW)
    labelled = (_count(config, state, _MORE, _FEW) - base) / (_MORE - _FEW)
    unlabelled = (_count(config, state, _FEW, _MORE) - base) / (_MORE - _FEW)
    beyond = (config.budget.labelled_batch - _FEW) * labelled + (config.budget.unlabelled_batch - _FEW) * unlabelled
    return base + beyond


def flops_per_second(config: Config, labelled: int = 16, unlabelled: int = 16) -> float:
    """What this machine's processor does in a step of the method, timed once after a first step."""
    state = _fresh(config, "cpu")
    state.step = config.budget.steps - 3  # three steps follow
    _step(config, state, labelled, unlabelled)
    started = time.perf_counter()
    _step(config, state, labelled, unlabelled)
    seconds = time.perf_counter() - started
    return _count(config, state, labelled, unlabelled) / seconds


def _count(config: Config, state: State, labelled: int, unlabelled: int) -> float:
    """Of a step from `state`, which stays at its step."""
    at = state.step
    with FlopCounterMode(display=False) as counter:
        _step(config, state, labelled, unlabelled)
    state.step = at
    return float(counter.get_total_flops())


def _fresh(config: Config, device: str) -> State:
    streams, classes = Streams(0), source_of(config.data).classes
    state: State = method_of(config.method).init(
        lambda role: build_model(config.model, classes, streams, role).to(device),
        config.method, config.optim, config.budget.steps, (),
    )  # fmt: skip
    return state


def _step(config: Config, state: State, labelled: int, unlabelled: int) -> None:
    streams = Streams(0, next(iter(state.learners.values())).parameters[0].device)
    method_of(config.method).step(state, empty_batch(config, labelled, unlabelled, streams, state.step), config.method)


def empty_batch(config: Config, labelled: int, unlabelled: int, streams: Streams, step: int) -> Batch:
    """A batch as a step of training sees it, but of zeros: so many examples, on the device of `streams`."""
    lead, shape, device = streams.lead, config.data.shape, streams.device
    seen, weak, strong = (torch.zeros(*lead, n, *shape, device=device) for n in (labelled, unlabelled, unlabelled))
    labels, hidden = (torch.zeros(*lead, n, dtype=torch.int64, device=device) for n in (labelled, unlabelled))
    return Batch(seen, labels, weak, strong, hidden, Draws(streams, step), strong_labelled=seen)


def passes_of_evaluation(config: Config, seeds: Seeds, networks: int, unlabelled: int) -> int:
    """How many times an example passes through one of `networks` networks, when a run is evaluated.

    Args:
        config: the run's settings.
        seeds: one seed, or R seeds stacked, which pass together.
        networks: that a snapshot holds, averages among them.
        unlabelled: examples that a run learns from, whose pseudo labels are compared with their classes.
    """
    budget = config.budget
    test, drawn, labelled = _examples(config, seeds, unlabelled)
    snapshots, late = len(snapshot_steps(budget.steps, budget.snapshots)) + 1, len(late_steps(budget.steps))
    finetuned = 1 if config.finetune.steps else 0
    return snapshots * (networks * drawn + labelled) + late * drawn + (networks + finetuned) * test


def files_read(config: Config, seeds: Seeds, unlabelled: int) -> int:
    """How many examples an evaluation reads: those of the curves once, where memory holds them, and all test ones.

    Args:
        config: the run's settings.
        seeds: as above.
        unlabelled: as above.
    """
    return sum(_examples(config, seeds, unlabelled))


def _examples(config: Config, seeds: Seeds, unlabelled: int) -> tuple[int, int, int]:
    """Test examples, and those of the curves: of the test set, and unlabelled ones."""
    test, most = source_of(config.data).held_out_set(seeds).labels.shape[-1], config.budget.curve_examples
    return test, min(test, most or test), min(unlabelled, most or unlabelled)


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
    late = counted(trainer.state.learners[trainer.config.method.networks[-1]])
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
    if isinstance(method, PseudoLabelMethod):
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
