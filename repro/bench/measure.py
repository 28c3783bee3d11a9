"""Times one step in several ways, a plain implementation with Pillow workers among them, and keeps what it finds.

    repro bench                                          a step of the released recipe
    repro bench cifar10_paper_mpl budget.unlabelled_batch=112 --steps 20

On a CPU batches are 16 + 112 images unless the overrides say otherwise. Leaves a file in results/bench/, and the tables
of all in its README.md. The plain implementation draws hard labels and takes h as the old minus the new loss, whatever
the experiment does.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from repro.bench.plain import PlainTrainer, step_bytes, step_flops
from repro.config import Config
from repro.data import source_of
from repro.engine.device import (
    AT_ONCE,
    choose_device,
    finish,
    is_out_of_memory,
    peak_bytes,
    seconds_a_step,
    seconds_of,
    set_up_process,
)
from repro.files import readable_json, write_whole
from repro.methods import Mpl
from repro.models import WideResNet
from repro.plan import compose
from repro.results import read_record
from repro.settings import ConfigError, Engine, Precision
from repro.train.job import environment, source_hashes
from repro.train.loop import Trainer

_STEPS = {"cpu": 6, "cuda": 100}
_ON_A_CPU = ["budget.labelled_batch=16", "budget.unlabelled_batch=112"]


def bench(arguments: argparse.Namespace) -> None:
    """Measures, writes, prints."""
    device, cores = choose_device(), os.cpu_count() or 1
    steps = arguments.steps or _STEPS[device.type]
    left_out = {"compiled": arguments.uncompiled, "recorded": device.type == "cpu"}
    ways = tuple(way for way in WAYS if not any(getattr(way, kind) and out for kind, out in left_out.items()))
    smaller = _ON_A_CPU if device.type == "cpu" else []
    config = compose(arguments.run, [*smaller, f"engine.threads={cores}", *arguments.overrides])
    here = config.data.shape == (3, 32, 32) and isinstance(config.method, Mpl) and isinstance(config.model, WideResNet)
    if not here:
        raise ConfigError(f"{arguments.run}: the plain implementation is of MPL with a WideResNet on 32x32 pixels; "
                          "name such an experiment")  # fmt: skip
    source_of(config.data).prepare()
    print(f"{arguments.run}: {len(ways)} ways, {arguments.rounds} times, each for {steps} steps", flush=True)
    timed = measure(config, steps, partial(print, flush=True), arguments.rounds, ways)
    set_up_process(config.engine.threads)  # not before: processes were started that must not inherit them
    alike = {(way.precision, way.channels_last): way for way in timed}  # move the same tensors
    moved = {kind: step_bytes(replace(config, engine=way.engine(config.engine))) for kind, way in alike.items()}
    rows = []
    for way, found in timed.items():
        seconds = found["all_seconds"]
        row = {"name": way.name, "plain": way.plain, "precision": way.precision.value}
        row |= {"seconds": round(median(seconds), 5), "fastest": round(min(seconds), 5)}
        row |= {"all_seconds": [round(second, 5) for second in seconds], "peak_bytes": found["peak_bytes"]}
        row["bytes"] = moved[way.precision, way.channels_last]  # by our operations
        rows.append(row | {"parts": {name: round(second, 5) for name, second in found["parts"].items()}})
    step = {
        "experiment": arguments.run,
        "title": f"{config.title} on {config.model.name}",
        "labelled": config.budget.labelled_batch,
        "unlabelled": config.budget.unlabelled_batch,
        "timed": steps * arguments.rounds,
        "flops": step_flops(config),
    }
    where = environment(device, [], source_hashes())
    record = {"step": step, "environment": where, "ceilings": measure_ceilings(device), "ways": rows}
    path = write_bench(record)
    print("\n" + "\n".join(section(record)))
    print(f"\n{path}, {path.parent}/README.md")


_WARM = 2  # steps before the timed ones
_BEGINNING = 5  # and of a way that compiles, shape after shape of batch, or that records, after some steps as always
_WATCHED = 3  # steps whose parts are timed, after those


@dataclass(frozen=True)
class Way:
    """One way to compute a step; `plain` is the implementation of `plain.py`, with torch's defaults.

    Networks are `compiled` by `torch.compile`, which wants a C++ compiler on a CPU. `recorded` steps are replayed as a
    CUDA graph, which no CPU has.
    """

    name: str
    precision: Precision
    channels_last: bool
    plain: bool = False
    compiled: bool = False
    recorded: bool = False

    def engine(self, engine: Engine) -> Engine:
        """An experiment's settings, computed in this way."""
        return replace(engine, precision=self.precision, channels_last=self.channels_last, cuda_graph=self.recorded)


WAYS = (
    Way("plain PyTorch, views by Pillow in workers, float32", Precision.float32, channels_last=False, plain=True),
    Way("eager, float32", Precision.float32, channels_last=False),
    Way("eager, float32, channels last", Precision.float32, channels_last=True),
    Way("eager, bfloat16, channels last", Precision.bfloat16, channels_last=True),
    Way("compiled, bfloat16, channels last", Precision.bfloat16, channels_last=True, compiled=True),
    Way("one CUDA graph, bfloat16, channels last", Precision.bfloat16, channels_last=True, recorded=True),
    Way("compiled within a CUDA graph, bfloat16, channels last", Precision.bfloat16, channels_last=True,
        compiled=True, recorded=True),
)  # fmt: skip


def measure(
    config: Config, steps: int, say: Callable[[str], object], rounds: int = 2, ways: tuple[Way, ...] = WAYS
) -> dict[Way, dict[str, Any]]:
    """All ways, one after another, and that for some rounds, so that a machine that slows down does so for all.

    `say` is told of each way that was timed, or that could not run here, and so is left out: not enough memory, or no
    compiler. Any other error of a way that is neither compiled nor recorded is raised, and one where no way runs.

    Returns:
        For each way `all_seconds`, those of each step, or on a GPU of a step of so many together; `peak_bytes`, of the
        process, or of the GPU where there is one, of a recorded way what PyTorch keeps of it; and `parts`, seconds of a
        step, empty where it cannot be cut into ours: plain, or recorded.
    """
    found: dict[Way, list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                try:
                    found[way].append(pool.submit(_timed, way, config, steps).result())
                    say(f"{way.name}: {median(found[way][-1]['all_seconds']):.4f} s a step")
                except RuntimeError as error:
                    may_fail = way.compiled or way.recorded
                    if not (may_fail or is_out_of_memory(error) or isinstance(error, BrokenProcessPool)):
                        raise
                    say(f"{way.name}: left out: {(str(error).strip() or type(error).__name__).splitlines()[0]}")
    if not any(found.values()):
        raise RuntimeError("no way to compute a step runs here; smaller batches: budget.unlabelled_batch=64")
    return {
        way: {
            "all_seconds": [second for one in of_way for second in one["all_seconds"]],
            "peak_bytes": max(one["peak_bytes"] for one in of_way),
            "parts": {name: median(one["parts"][name] for one in of_way) for name in of_way[0]["parts"]},
        }
        for way, of_way in found.items()
        if of_way
    }


def _timed(way: Way, config: Config, steps: int) -> dict[str, Any]:
    device = choose_device()
    set_up_process(config.engine.threads)
    config = replace(config, engine=way.engine(config.engine))
    parts: dict[str, float] = {}
    if way.plain:
        plain, warm = _plain(config, steps, device)
        seconds, peak = _seconds(plain.advance, steps, device, warm), peak_bytes(device)
        return {"all_seconds": seconds, "peak_bytes": peak, "parts": parts}
    trainer = Trainer(config, 0, device)
    if way.compiled:
        for learner in trainer.state.learners.values():
            learner.model.forward = torch.compile(learner.model.forward, dynamic=False)
    seconds = _seconds(trainer.advance, steps, device, _BEGINNING if way.compiled or way.recorded else _WARM)
    peak = torch.cuda.max_memory_reserved(device) if way.recorded else peak_bytes(device)
    if not way.recorded:
        watched = Parts(trainer, device).seconds
        whole = _WATCHED * mean(_seconds(trainer.advance, _WATCHED, device, warm=0))  # no more than are timed at once
        watched["losses and the rest"] = whole - sum(watched.values())
        parts = {name: second / _WATCHED for name, second in watched.items()}
    return {"all_seconds": seconds, "peak_bytes": peak, "parts": parts}


def _plain(config: Config, steps: int, device: torch.device) -> tuple[PlainTrainer, int]:
    """The plain implementation, as torch is when nobody sets it up, and how many steps come before those that count.

    On a GPU its two loaders share all processors as workers. Batches that they made before the clock started count for
    none.
    """
    torch.set_deterministic_debug_mode("default")
    torch.backends.cudnn.allow_tf32 = True
    data = source_of(config.data).training_set(0)
    assert isinstance(data.unlabelled, torch.Tensor)  # noqa: S101 - CIFAR-10 is in memory
    workers = config.engine.readers if device.type == "cpu" else max(1, (os.cpu_count() or 1) // 2)
    warm = _WARM + 2 * workers
    return PlainTrainer(config, data.unlabelled, data.hidden_labels, warm + steps, workers, device), warm


def _seconds(step: Callable[[], object], steps: int, device: torch.device, warm: int = _WARM) -> list[float]:
    for _ in range(warm):
        step()
    once = AT_ONCE[device.type]
    return [seconds_a_step(step, min(once, steps - done), device) for done in range(0, steps, once)]


_SIDE = {"cpu": 2048, "cuda": 8192}
_COPY = {"cpu": 2**26, "cuda": 2**28}  # float32 numbers; more than any cache holds
_REPEATS = {"cpu": 5, "cuda": 20}  # a GPU's clock rises with work


def measure_ceilings(device: torch.device) -> dict[str, Any]:
    """The best of a few repeats of each, with the threads that this process has: no step can be faster.

    `flops` a second, of a matrix product, by precision; `bytes` a second, read and written by a copy.
    """
    side, count = _SIDE[device.type], _COPY[device.type]
    flops = {}
    for precision in Precision:
        # Of equal numbers a GPU takes less power, and is faster than it is with any data.
        waves = torch.arange(side * side, dtype=torch.float32, device=device).sin().reshape(side, side)
        a, b = (waves.to(getattr(torch, precision.value)) for _ in range(2))
        flops[precision.value] = 2 * side**3 / _best(lambda a=a, b=b: a @ b, device)  # type: ignore[misc]
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    moved = 2 * source.numel() * source.element_size()
    return {"flops": flops, "bytes": moved / _best(lambda: target.copy_(source), device)}


def _best(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest call, after one that is not timed."""
    call()
    return min(seconds_of(call, device) for _ in range(_REPEATS[device.type]))


class Parts:
    """Seconds of each part of the steps that a trainer takes from now on.

    The device is waited for at the beginning and end of each part, so that all parts together take longer than a step
    that nobody watches does.
    """

    def __init__(self, trainer: Trainer, device: torch.device) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._device = device
        trainer.batch = self._timed("batch and views", trainer.batch)
        for role, learner in trainer.state.learners.items():
            learner.model.forward = self._timed(f"{role} forward", learner.model.forward)
            learner.gradients = self._timed(f"{role} backward", learner.gradients)  # type: ignore[method-assign]
            learner.apply = self._timed("optimiser and average", learner.apply)  # type: ignore[method-assign]

    def _timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            finish(self._device)
            started = time.perf_counter()
            found = call(*arguments, **named)
            finish(self._device)
            self.seconds[name] += time.perf_counter() - started
            return found

        return timed


BENCH = Path("results/bench")


def write_bench(record: dict[str, Any], root: Path = BENCH) -> Path:
    """Writes a record under the names of its device and step, in the place of an older one, and the page anew."""
    device = re.sub(r"[^a-z0-9]+", "-", record["environment"]["device_name"].lower()).strip("-")
    step = record["step"]
    path = root / f"{device}-{step['experiment']}-{step['labelled']}-{step['unlabelled']}.json"
    write_whole(path, (readable_json(record) + "\n").encode())
    write_page(root)
    return path


def write_page(root: Path = BENCH) -> None:
    """The tables of all records, in the order of their files."""
    write_whole(root / "README.md", page(read_benches(root)).encode())


def read_benches(root: Path = BENCH) -> list[dict[str, Any]]:
    """All records; a RecordError when one is damaged."""
    remedy = "measure again: make bench"
    return [read_record(path, lambda text: dict(json.loads(text)), remedy) for path in sorted(root.glob("*.json"))]


_HEAD = """# How fast a step is

Generated by `make bench`, which measures anew on the machine that it runs on. All ways of a table were timed in one
run, in turns, each in a process of its own. A share of the matrix product is the step's arithmetic (convolutions and
products, counted) in its time, of what the same threads reached in a large matrix product of that precision; a share of
the copy is what its operations read and write, were nothing kept in a cache, of a large copy's bytes a second. Bytes of
the plain implementation are not counted, and on a GPU its convolutions round to TF32, as torch's do by default. Memory
is that of the process, or of the GPU; loader workers are not in it. A GPU is waited for after ten steps, whose mean
counts as one; of a step that is one CUDA graph the memory is what PyTorch reserved, without a step that has probes.
"""


def page(records: Iterable[dict[str, Any]]) -> str:
    """All records, a section for each."""
    return "\n".join([_HEAD, *(line for record in records for line in (*section(record), ""))])


def section(record: dict[str, Any]) -> list[str]:
    """One record: its heading, the ways, and their parts."""
    step, where, ceilings = record["step"], record["environment"], record["ceilings"]
    products = ", ".join(f"{flops / 1e9:,.0f} GFLOP/s in {name}" for name, flops in ceilings["flops"].items())
    copies = f"copies at {ceilings['bytes'] / 1e9:,.1f} GB/s"
    seconds = ".4f" if where["device"] == "cuda" else ".3f"
    plain = next((way["seconds"] for way in record["ways"] if way["plain"]), None)
    rows = [
        [way["name"], f"{way['seconds']:{seconds}}", f"{way['fastest']:{seconds}}", f"{1 / way['seconds']:.2f}",
         f"{(step['labelled'] + step['unlabelled']) / way['seconds']:,.0f}",
         f"{plain / way['seconds']:.2f}" if plain else "–", f"{way['peak_bytes'] / 2**20:,.0f} MiB",
         "–" if way["plain"] and where["device"] == "cuda"
         else _share(step["flops"] / way["seconds"], ceilings["flops"][way["precision"]]),
         "–" if way["plain"] else _share(way["bytes"] / way["seconds"], ceilings["bytes"])]
        for way in record["ways"]
    ]  # fmt: skip
    parts = [way for way in record["ways"] if way["parts"]]
    names = list(parts[0]["parts"]) if parts else []
    title = f"{step['title']}, {step['labelled']} + {step['unlabelled']} images, {where['device_name']}"
    speed = f"{step['flops'] / 1e9:,.0f} GFLOP a step; the device: {products}, {copies}"
    revision = f"{where['revision'][:10]}{'' if where['clean'] else ' with changes'}"
    made = f"{where['threads']} threads, PyTorch {where['torch']}, revision {revision}, {where['finished'][:10]}"
    return [
        f"## {title}",
        "",
        f"{speed}; {made}; {step['timed']} steps a row.",
        "",
        table(["way", "s a step, median", "fastest", "steps/s", "images/s", "times the plain one", "peak memory",
               "of the matrix product", "of the copy"], rows, right=8),
        "",
        "Seconds of a step's parts, each waited for:",
        "",
        table(["way", *names], [[way["name"], *(f"{way['parts'][name]:{seconds}}" for name in names)] for way in parts],
              right=len(names)),
    ]  # fmt: skip


def _share(reached: float, ceiling: float) -> str:
    return f"{100 * reached / ceiling:.0f} %"


def table(header: list[str], rows: list[list[str]], right: int = 0) -> str:
    """A Markdown table; the last `right` columns are aligned to the right."""
    rule = ["---"] * (len(header) - right) + ["---:"] * right
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *rows])
