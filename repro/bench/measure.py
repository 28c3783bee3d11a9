"""The same step computed in several ways, each in a process of its own: seconds, memory, parts."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from statistics import mean, median

import torch

from repro.bench.clock import AT_ONCE, seconds_a_step
from repro.bench.parts import Parts
from repro.bench.plain import PlainTrainer
from repro.config.schema import Config, Engine, Precision
from repro.data import source_of
from repro.engine.device import choose_device, is_out_of_memory, peak_bytes, set_up_process
from repro.train.loop import Trainer

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


@dataclass(frozen=True)
class Timing:
    """Steps of one way."""

    way: Way
    steps: int  # timed
    seconds: list[float]  # of each of them; on a GPU, a step of so many together
    peak_bytes: int  # of the process, or of the GPU where there is one; of a recorded way, what PyTorch keeps of it
    parts: dict[str, float]  # seconds of a step; empty where it cannot be cut into ours: plain, or recorded

    @property
    def second(self) -> float:
        """Of the median step."""
        return median(self.seconds)


def measure(
    config: Config, steps: int, say: Callable[[str], object], rounds: int = 2, ways: tuple[Way, ...] = WAYS
) -> list[Timing]:
    """All ways, one after another, and that for some rounds, so that a machine that slows down does so for all.

    Args:
        config: an experiment, whose data are prepared.
        steps: timed in each round.
        say: told of each way that was timed, or that could not run here, and so is left out: not enough memory, or no
            compiler. Any other error of a way that is neither compiled nor recorded is raised.
        rounds: of all ways.
        ways: to compute a step.

    Raises:
        RuntimeError: when none of them runs.
    """
    found: dict[Way, list[Timing]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                try:
                    found[way].append(pool.submit(_timed, way, config, steps).result())
                    say(f"{way.name}: {found[way][-1].second:.3f} s a step")
                except RuntimeError as error:
                    may_fail = way.compiled or way.recorded
                    if not (may_fail or is_out_of_memory(error) or isinstance(error, BrokenProcessPool)):
                        raise
                    say(f"{way.name}: left out: {(str(error).strip() or type(error).__name__).splitlines()[0]}")
    if not any(found.values()):
        raise RuntimeError("no way to compute a step runs here; smaller batches: budget.unlabelled_batch=64")
    return [
        Timing(way, sum(one.steps for one in of_way), [second for one in of_way for second in one.seconds],
               max(one.peak_bytes for one in of_way),
               {name: median(one.parts[name] for one in of_way) for name in of_way[0].parts})
        for way, of_way in found.items()
        if of_way
    ]  # fmt: skip


def _timed(way: Way, config: Config, steps: int) -> Timing:
    device = choose_device()
    set_up_process(config.engine.threads)
    config = replace(config, engine=way.engine(config.engine))
    if way.plain:
        return _timed_plain(way, config, steps, device)
    trainer = Trainer(config, 0, device)
    if way.compiled:
        for learner in trainer.state.learners.values():
            learner.model.forward = torch.compile(learner.model.forward, dynamic=False)
    seconds = _seconds(trainer.advance, steps, device, _BEGINNING if way.compiled or way.recorded else _WARM)
    if way.recorded:
        return Timing(way, steps, seconds, torch.cuda.max_memory_reserved(device), {})
    peak = peak_bytes(device)
    parts = Parts(trainer, device)
    whole = _WATCHED * mean(_seconds(trainer.advance, _WATCHED, device, warm=0))  # no more steps than are timed at once
    parts.seconds["losses and the rest"] = whole - sum(parts.seconds.values())
    return Timing(way, steps, seconds, peak, {name: second / _WATCHED for name, second in parts.seconds.items()})


def _timed_plain(way: Way, config: Config, steps: int, device: torch.device) -> Timing:
    """As torch is when nobody sets it up; on a GPU its two loaders share all processors as workers."""
    torch.set_deterministic_debug_mode("default")
    torch.backends.cudnn.allow_tf32 = True
    data = source_of(config.data).training_set(0)
    assert isinstance(data.unlabelled, torch.Tensor)  # noqa: S101 - CIFAR-10 is in memory
    workers = config.engine.readers if device.type == "cpu" else max(1, (os.cpu_count() or 1) // 2)
    warm = _WARM + 2 * workers  # batches that loaders made before the clock started count for none
    plain = PlainTrainer(config, data.unlabelled, data.hidden_labels, warm + steps, workers, device)
    return Timing(way, steps, _seconds(plain.advance, steps, device, warm), peak_bytes(device), {})


def _seconds(step: Callable[[], object], steps: int, device: torch.device, warm: int = _WARM) -> list[float]:
    for _ in range(warm):
        step()
    once = AT_ONCE[device.type]
    return [seconds_a_step(step, min(once, steps - done), device) for done in range(0, steps, once)]
