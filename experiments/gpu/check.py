"""Is a GPU right, and how fast: leaves results/gpu/<what>.json, written anew after each finding.

    python experiments/gpu/check.py right|times|compiled [key=value ...]

`right`, for each recipe: steps as the CPU takes them, within `LIKE_CPU`; the same bits twice; recorded
steps with the bits of the same function taken; and views byte for byte. `times`: milliseconds of a step taken,
recorded, with kernels chosen by trial, and of three seeds at once; shares of what the device reached in a large matrix
product and a copy; kernels. `compiled`: likewise with compiled networks, which takes minutes.
Images are random, so no data set is wanted. Overrides make it smaller. Status 1 when something is not right.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from repro.augment.views import RandAugment
from repro.bench.measure import measure_ceilings
from repro.bench.plain import step_bytes, step_flops
from repro.config import Config
from repro.cost import TIMED
from repro.data.cifar10 import Cifar10
from repro.engine.device import choose_device, finish, seconds_a_step, set_up_process
from repro.files import readable_json, write_whole
from repro.models import WideResNet
from repro.plan import compose
from repro.settings import Precision
from repro.train.job import environment, source_hashes
from repro.train.loop import Trainer
from repro.train.recorded import CudaGraph, Function, Record

CPU = torch.device("cpu")
LIKE_CPU = {torch.float32: 1e-2, torch.float64: 1e-8}
"""Of an update's length, over one step in float32 without TF32 and three in float64: a wrong layer, sign or rate is off
by all of it. In float32 rounding moves some activations to the other side of their kink: on one CPU, weights that
differ by 1e-7 give updates 0.001 apart after one step, 0.1 to 0.2 after three; in float64, by 1e-15, 1e-14 after three.
"""
EQUAL = 0.0
STEPS = 3


class Findings:
    """Of one part, in a file from the first on."""

    def __init__(self, part: str) -> None:
        self._path, self._begun = Path(f"results/gpu/{part}.json"), time.perf_counter()
        self.record: dict[str, Any] = {"environment": environment(choose_device(), [], source_hashes()), "found": []}
        self._path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, what: str, call: Callable[[], dict[str, Any]]) -> None:
        """What the call finds, or why it failed."""
        try:
            found = call()
        except (RuntimeError, ValueError, AssertionError) as error:  # the next one may tell something all the same
            found = {"right": False, "failed": f"{type(error).__name__}: {str(error)[:500]}"}
        self.record["found"].append({"what": what} | found)
        write_whole(self._path, (readable_json(self.record) + "\n").encode())
        print(f"{time.perf_counter() - self._begun:6.1f} s  {what}: {found}", flush=True)

    @property
    def right(self) -> bool:
        """All that could be wrong."""
        return all(found.get("right", True) for found in self.record["found"])


def trainer(
    config: Config, device: torch.device, record: Record | None = None, at: int | None = None, seed: int = 0
) -> Trainer:
    """In the middle of training, where no rate is 0."""
    made = Trainer(config, seed, device, record=record)
    made.state.step = config.budget.steps // 2 + 1 if at is None else at
    return made


def after(made: Trainer, steps: int) -> dict[str, Tensor]:
    """Its weights, momenta and averages after some steps, on the CPU."""
    for _ in range(steps):
        made.steps.take(made.batch, probe=False)
    return {name: value.detach().cpu().clone() for name, value in made.state.state_dict().items()}


def apart(a: dict[str, Tensor], b: dict[str, Tensor], start: dict[str, Tensor], most: float) -> dict[str, Any]:
    """The longest difference of a tensor, as a share of how far any tensor of its network has moved."""
    shares = {}
    for role in sorted({name.split(".")[0] for name in start} - {"memory"}):
        names = [name for name in start if name.startswith(f"{role}.") and start[name].is_floating_point()]
        moved = sum(float((a[name].double() - start[name].double()).square().sum()) for name in names)
        off = sum(float((a[name].double() - b[name].double()).square().sum()) for name in names)
        shares[role] = (off / moved) ** 0.5 if moved else float(off > 0)
    different = [name for name in a if not torch.equal(a[name], b[name])]
    right = max(shares.values()) <= most if most else not different
    return {"right": right, "off": shares, "tolerance": most, "tensors_that_differ": len(different)}


def like_the_cpu(config: Config, device: torch.device, kind: torch.dtype, steps: int) -> dict[str, Any]:
    """Steps of small batches."""
    small = replace(
        config, engine=replace(config.engine, precision=Precision.float32, channels_last=False),
        budget=replace(config.budget, labelled_batch=min(16, config.budget.labelled_batch),
                       unlabelled_batch=min(16, config.budget.unlabelled_batch)),
    )  # fmt: skip
    start, here, there = (of_kind(trainer(small, where), kind) for where in (CPU, CPU, device))
    return apart(after(here, steps), after(there, steps), after(start, 0), LIKE_CPU[kind])


def of_kind(made: Trainer, kind: torch.dtype) -> Trainer:
    """The same with numbers of this kind: weights, momenta, averages, and what its networks are given."""
    for learner in made.state.learners.values():
        forward = learner.model.to(kind).forward

        def cast(x: Tensor, noise: Tensor | None = None, forward: Callable[..., Tensor] = forward) -> Tensor:
            return forward(x.to(kind), noise if noise is None else noise.to(kind))

        learner.model.forward = cast
        learner.momentum = [value.to(kind) for value in learner.momentum]
        learner.average = {name: value.to(kind) if value.is_floating_point() else value
                           for name, value in learner.average.items()}  # fmt: skip
    made.state.memory = {name: value.to(kind) for name, value in made.state.memory.items()}
    return made


def twice(config: Config, device: torch.device, records: Sequence[Record | None], steps: int) -> dict[str, Any]:
    """The bits of two trainings."""
    start = after(trainer(config, device), 0)
    first, second = (after(trainer(config, device, one), steps) for one in records)
    return apart(first, second, start, EQUAL)


def as_taken(function: Function) -> Function:
    """The arithmetic of a recorded step, taken."""
    return function


def views(config: Config, device: torch.device) -> dict[str, Any]:
    """Weak and strong views of 64 images in each of ten steps, bytes of the device beside those of the CPU."""
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    settings = asdict(config.data.views)  # type: ignore[union-attr]
    augment = RandAugment(**settings), RandAugment(**settings)
    wrong = 0
    for step in range(10):
        weak = [one.weak(images.to(where), step) for one, where in zip(augment, (CPU, device), strict=True)]
        strong = [one(seen, step) for one, seen in zip(augment, weak, strict=True)]
        wrong += sum(int((there.cpu() != here).sum()) for here, there in (weak, strong))
    return {"right": not wrong, "bytes_that_differ": wrong, "steps": 10}


def right(config: Config, name: str, found: Findings, device: torch.device) -> None:
    """All of one recipe."""
    found.add(f"{name}: views byte for byte", partial(views, config, device))
    found.add(f"{name}: a float32 step as on the CPU", partial(like_the_cpu, config, device, torch.float32, 1))
    found.add(
        f"{name}: {STEPS} float64 steps as on the CPU", partial(like_the_cpu, config, device, torch.float64, STEPS)
    )
    found.add(f"{name}: twice the same", partial(twice, config, device, (None, None), STEPS))
    if device.type == "cuda":
        found.add(f"{name}: recorded as taken", partial(twice, config, device, (as_taken, CudaGraph), 2 * STEPS))
        found.add(f"{name}: one of three seeds at once as alone", partial(as_alone, config, device))


def times(config: Config, name: str, found: Findings, device: torch.device, compiled: bool) -> None:
    """Ways to take a step, of one seed and of three at once."""
    ways: dict[str, Record | None] = {"taken": None} | ({"recorded": CudaGraph} if device.type == "cuda" else {})
    also = " and compiled" if compiled else ""
    for way, record in ways.items():
        found.add(f"{name}: {way}{also}", partial(timed, config, found.record["ceilings"], device, record, compiled))
    if device.type == "cuda" and not compiled:
        found.add(f"{name}: recorded, kernels by trial", partial(by_trial, config, found.record["ceilings"], device))
        found.add(f"{name}: recorded, three seeds at once", partial(at_once, config, device))


def timed(
    config: Config, ceilings: dict[str, Any], device: torch.device, record: Record | None, compiled: bool = False
) -> dict[str, Any]:
    """Milliseconds a step, and its shares of the ceilings."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    made = trainer(config, device)
    made.steps.use(record, compiled)
    begun = time.perf_counter()
    after(made, 6)
    first = time.perf_counter() - begun
    count = 40 if device.type == "cuda" else 1
    step = partial(made.steps.take, made.batch, probe=False)
    seconds = min(seconds_a_step(step, count, device) for _ in range(3))
    return {"ms": round(1000 * seconds, 3), "first_six_steps_s": round(first, 1),
            "of_the_matrix_product": round(
                step_flops(config) / seconds / ceilings["flops"][config.engine.precision.value], 3),
            "of_the_copy": round(step_bytes(config) / seconds / ceilings["bytes"], 3),
            "reserved_mib": torch.cuda.max_memory_reserved() >> 20 if device.type == "cuda" else 0}  # fmt: skip


def by_trial(config: Config, ceilings: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Recorded steps with the kernels that cuDNN finds fastest, not the same bits twice: what being so costs."""
    try:
        torch.set_deterministic_debug_mode("default")
        torch.backends.cudnn.benchmark = True
        return timed(config, ceilings, device, CudaGraph)
    finally:
        torch.backends.cudnn.benchmark = False
        set_up_process()


class AtOnce:
    """Recorded steps of several seeds, each on a stream of its own."""

    def __init__(self, config: Config, device: torch.device, seeds: int = 3) -> None:
        self.streams = [torch.cuda.Stream() for _ in range(seeds)]  # type: ignore[no-untyped-call]
        self.made = []
        for seed, stream in enumerate(self.streams):
            with torch.cuda.stream(stream):
                self.made.append(trainer(config, device, CudaGraph, seed=seed))

    def step(self) -> None:
        """One of each."""
        for made, stream in zip(self.made, self.streams, strict=True):
            with torch.cuda.stream(stream):
                made.steps.take(made.batch, probe=False)


def at_once(config: Config, device: torch.device) -> dict[str, Any]:
    """Milliseconds for a step of each of three seeds."""
    seeds = AtOnce(config, device)
    for _ in range(6):
        seeds.step()
    return {"ms": round(1000 * min(seconds_a_step(seeds.step, 40, device) for _ in range(3)), 3)}


def as_alone(config: Config, device: torch.device) -> dict[str, Any]:
    """The bits of the third of three seeds at once beside those of this seed alone."""
    seeds = AtOnce(config, device)
    start = after(seeds.made[2], 0)
    for _ in range(4 * STEPS):
        seeds.step()
    finish(device)
    alone = after(trainer(config, device, CudaGraph, seed=2), 4 * STEPS)
    return apart(after(seeds.made[2], 0), alone, start, EQUAL)


def kernels(config: Config, device: torch.device) -> dict[str, Any]:
    """Forty that take the longest, of five steps: times called and milliseconds a step."""
    from torch.profiler import ProfilerActivity, profile

    made = trainer(config, device, CudaGraph)
    after(made, 6)
    with profile(activities=[ProfilerActivity.CUDA]) as watched:
        after(made, 5)
        finish(device)
    rows = [(row.key[:120], row.count / 5, row.self_device_time_total / 5000) for row in watched.key_averages()]
    longest = sorted(rows, key=lambda row: -row[2])[:40]
    return {"kernels": sum(row[1] for row in rows), "ms": round(sum(row[2] for row in rows), 3),
            "longest": [[name, calls, round(ms, 4)] for name, calls, ms in longest]}  # fmt: skip


def main(words: Sequence[str]) -> int:
    """All recipes; 1 when something is not right."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["right", "times", "compiled"])
    parser.add_argument("overrides", nargs="*", help="key=value")
    arguments = parser.parse_args(words)
    set_up_process()
    pixels = torch.randint(0, 256, (50_000, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    Cifar10.read = lambda *_: (pixels, torch.arange(50_000) % 10)  # type: ignore[method-assign]
    configs = {name: composed(run, arguments.overrides) for name, run in TIMED.items()}
    found, device = Findings(arguments.what), choose_device()
    if arguments.what == "right":
        for name, config in configs.items():
            right(config, name, found, device)
        return int(not found.right)
    found.record["ceilings"] = measure_ceilings(device)
    for name, config in configs.items():
        times(config, name, found, device, compiled=arguments.what == "compiled")
    for name, config in configs.items() if device.type == "cuda" and arguments.what == "times" else ():
        found.add(f"{name}: kernels of a recorded step", partial(kernels, config, device))
    return 0


def composed(run: str, overrides: Sequence[str]) -> Config:
    """With these overrides, of which those of the model are for a WideResNet."""
    own = [one for one in overrides if isinstance(compose(run).model, WideResNet) or not one.startswith("model.")]
    return compose(run, own)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
