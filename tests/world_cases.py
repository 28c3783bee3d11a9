"""Trainings that several processes share and that one process repeats, and how such processes are started."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from repro.config import Config, as_mapping, read_config
from repro.data.cifar10 import Cifar10
from repro.engine.distributed import ALONE, Differing, World, connected, require_same, share
from repro.models.layers import BatchNorm
from repro.train.loop import Trainer
from tests import survival
from tests.survival import Process
from tests.tiny import CPU, METHODS, settings

STEPS = 6
_OPTIMISER = {"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 1e-3, "clip_norm": 0.5}
_CHANGES: dict[str, Any] = {
    "budget__steps": STEPS, "budget__log_every": 3, "budget__labelled_batch": 8, "budget__unlabelled_batch": 12,
    "optim__student": _OPTIMISER, "optim__teacher": _OPTIMISER, "optim__average_decay": 0.9,
}  # fmt: skip
_FORMS: dict[str, dict[str, Any]] = {
    "sampled finite_difference": {"feedback": "finite_difference", "baseline": "moving_average"},
    "released form": {"feedback": "finite_difference", "feedback_batch_norm": "released", "pseudo_label": "soft",
                      "feedback_sign": "new_minus_old", "student_label_smoothing": 0.1},
    "cosine": {"feedback": "cosine", "baseline": "moving_average", "pseudo_label": "argmax"},
    "dot_product": {"feedback": "dot_product"},
    "example": {"feedback": "dot_product", "feedback_scope": "example", "baseline": "moving_average",
                "feedback_batch_norm": "released"},
    "exact": {"feedback": "exact", "pseudo_label": "soft", "baseline": "moving_average"},
    "shuffled": {"feedback": "shuffled", "shuffle_window": 3},
}  # fmt: skip


def digits(method: dict[str, Any], **changes: Any) -> Config:
    """A small network with batch norm and dropout, with clipping and averages."""
    return settings("digits", method, **(_CHANGES | {"model__dropout": 0.3} | changes))


def images() -> Config:
    """Colour images with the paper's pool of operations, in which an image is paired with any other of the batch."""
    mapping = as_mapping(digits(METHODS["mpl"] | {"feedback": "finite_difference"}))
    views = {"operations": "paper", "layers": 3, "lowest_rate": 1.0, "highest_rate": 1.0}
    mapping["data"] = {"name": "cifar10", "labels": 20, "train_images": 5060, "views": views}
    mapping["model"] = {"name": "wide_resnet", "depth": 10, "width": 1, "teacher_dropout": 0.5, "student_dropout": 0.3}
    mapping["budget"] |= {"steps": 2, "log_every": 1}
    return read_config(mapping)


CASES: dict[str, Callable[[], Config]] = {
    "supervised": lambda: digits(METHODS["supervised"]),
    "pseudo_label": lambda: digits(METHODS["pseudo_label"] | {"teacher_steps": 3}),
    "uda": lambda: digits(METHODS["uda"]),
    "fixmatch": lambda: digits(METHODS["fixmatch"] | {"threshold": 0.2}),
    **{name: lambda form=form: digits(METHODS["mpl"] | form) for name, form in _FORMS.items()},
    "channels last": lambda: digits(METHODS["uda"], engine__channels_last=True),
    "stacked moons": lambda: settings(
        "two_moons", METHODS["mpl"], **(_CHANGES | {"budget__stack": 2, "data__labels": 8})
    ),
    "images": images,
}


def synthetic_images() -> None:
    """Noise stands in for CIFAR-10."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (5060, 3, 32, 32), generator=generator, dtype=torch.uint8)
    Cifar10.read = lambda *_: (pixels, torch.arange(len(pixels)) % 10)  # type: ignore[method-assign]


def in_double(trainer: Trainer) -> Trainer:
    """The same training in float64, where one process and several differ by far less than any mistake."""
    for learner in trainer.state.learners.values():
        learner.model.double()
        learner.momentum = [slot.double() for slot in learner.momentum]
        learner.average = {key: value.double() for key, value in learner.average.items()}
    trainer.state.memory = {key: value.double() for key, value in trainer.state.memory.items()}
    drawn = trainer.batch

    def batch(step: int, probe: bool = False) -> Any:
        found = drawn(step, probe)
        return replace(found, **{name: getattr(found, name).double() for name in ("labelled", "weak", "strong")})

    trainer.batch = batch
    return trainer


def trained(config: Config, world: World = ALONE) -> dict[str, Any]:
    """State and log after all steps, and where the processes differ; empty where they do not."""
    seeds = [0, 1] if config.budget.stack > 1 else 0
    trainer = in_double(Trainer(config, seeds, CPU, world=world))
    while trainer.state.step < config.budget.steps:
        trainer.advance()
    found: dict[str, Any] = {"state": trainer.state.state_dict(), "rows": trainer.rows, "differing": ""}
    try:
        require_same(world, found["state"], trainer.state.step, "all take the same steps")
    except Differing as error:
        found["differing"] = str(error)
    return found


def norm_example() -> tuple[BatchNorm, Tensor, Tensor]:
    """A layer in float64, a batch far from 0, and what its outputs are multiplied with."""
    generator = torch.Generator().manual_seed(0)
    layer = BatchNorm(3).double()
    x, g = (torch.randn(8, 3, 4, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, 2.0, -1.0]))
    return layer, 3 * x + 20, g


def normalised(world: World, count: int) -> dict[str, Tensor]:
    """Of one batch in groups of `count` processes: all outputs and gradients, and the running statistics."""
    layer, x, g = norm_example()
    learner: Any = SimpleNamespace(model=layer)
    share([learner], world, count)
    mine = world.shard.rows(x).clone().requires_grad_()
    y = layer(mine)
    of_x, of_weight, of_bias = torch.autograd.grad((y * world.shard.rows(g)).sum(), [mine, layer.weight, layer.bias])
    mean, variance = layer.running_mean, layer.running_variance
    return {"y": world.whole(y), "x": world.whole(of_x), "weight": world.gather(of_weight).sum(dim=0),
            "bias": world.gather(of_bias).sum(dim=0), "mean": mean, "variance": variance}  # fmt: skip


def compute(names: Iterable[str], file: Path) -> None:
    """These cases, in one of several processes or alone; the first process leaves what came out."""
    synthetic_images()
    with connected() as world:
        found: dict[str, Any] = {name: trained(CASES[name](), world) for name in names}
        if world.size > 1:
            found |= {f"norm {count}": normalised(world, count) for count in (1, 2, 4) if count <= world.size}
        if world.rank == 0:
            torch.save(found, file)


def environments(size: int) -> list[dict[str, str]]:
    """For each of `size` processes on this machine, what `torchrun` would say to it; nothing to one alone."""
    if size == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        alike = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(size)}
    return [alike | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]


def start(
    size: int, place: Path, do: Callable[[], object], spoil: Callable[[int], None] = lambda _: None
) -> list[Process]:
    """Forks `size` processes that find one another and call `do` in `place`; all print to `place`/log.

    Args:
        size: how many.
        place: the working directory.
        do: what each does.
        spoil: called first in each process, with its rank.
    """

    def begin(rank: int, environment: dict[str, str]) -> None:
        os.environ.update(environment)
        spoil(rank)
        do()

    return [survival.start(place, partial(begin, rank, variables)) for rank, variables in enumerate(environments(size))]


def ends(processes: Iterable[Process], seconds: float = 100.0) -> list[int | None]:
    """Their exit statuses, negative for a signal; None for one that still runs after so long, which is then killed."""
    found = []
    for process in processes:
        found.append(process.wait(seconds))
        if found[-1] is None:
            process.send_all(signal.SIGKILL)
            process.wait()
    return found
