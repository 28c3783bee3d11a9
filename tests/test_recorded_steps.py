"""Recorded steps: the updates of steps taken one by one, for every arm, over several of them, after a resume too.

Tapes stand in for CUDA graphs (`tests/recording.py`), so that what a step would wrongly read from Python shows here.
"""

from __future__ import annotations

import contextlib
import gc
import time
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from repro import optim
from repro.config import Config, unrecordable
from repro.engine.distributed import World
from repro.methods import mpl, uda
from repro.seeding import Streams
from repro.settings import ConfigError, Optimiser, Schedule
from repro.train.loop import Stopped, Trainer
from repro.train.recorded import TAKEN, CudaGraph, Function
from tests.recording import Tape, record_on_tapes
from tests.test_train_images import settings as image_settings
from tests.tiny import CPU, METHODS, VARIANTS, all_weights, assert_same, assert_same_training, settings

ONE_KIND = [name for name in VARIANTS if name != "pseudo_label"]
PROBLEMS: dict[str, tuple[str, Any]] = {"stacked points": ("two_moons", [0, 1]), "digits": ("digits", 3)}


@pytest.fixture
def tapes(monkeypatch: pytest.MonkeyPatch) -> list[Tape]:
    """Those that are made in the test."""
    return record_on_tapes(monkeypatch)


@pytest.fixture
def rates_as_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates enter as tensors where steps are taken one by one too: all that recording itself changes in a number."""

    def on_device(step: int | Tensor) -> Tensor:
        return step if isinstance(step, Tensor) else torch.tensor(step)

    rate, decay, ramp = optim.learning_rate, optim.average_decay, optim.ramp
    monkeypatch.setattr(optim, "learning_rate", lambda config, step, total: rate(config, on_device(step), total))
    monkeypatch.setattr(optim, "average_decay", lambda most, step: decay(most, on_device(step)))
    for module in (mpl, uda):
        monkeypatch.setattr(module, "ramp", lambda step, steps: ramp(on_device(step), steps))


def long(data: str, method: str, **changes: Any) -> Config:
    """40 steps with everything switched on that follows a schedule; some log rows, so that kinds of steps alternate."""
    schedule = {"wait_steps": 2, "warmup_steps": 6, "schedule": "cosine", "clip_norm": 1.0, "weight_decay": 1e-3}
    both = {f"optim__{role}__{key}": value for role in ("teacher", "student") for key, value in schedule.items()}
    budget = {"budget__steps": 40, "budget__log_every": 9, "optim__average_decay": 0.9}
    return settings(data, VARIANTS[method], **budget | both | changes)


def run(trainer: Trainer, folder: Path) -> Trainer:
    """To the end of its budget."""
    trainer.run(folder)
    return trainer


@pytest.mark.usefixtures("rates_as_tensors")
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("method", ONE_KIND)
def test_recorded_steps_are_the_steps(method: str, problem: str, tapes: list[Tape], tmp_path: Path) -> None:
    """Weights, momenta, averages, memory and log, bit for bit, over 40 steps of which 32 are replayed."""
    data, seeds = PROBLEMS[problem]
    config = long(data, method)
    one_by_one = run(Trainer(config, seeds, CPU), tmp_path / "a")

    recorded = run(Trainer(config, seeds, CPU, record=CudaGraph), tmp_path / "b")

    assert_same_training(one_by_one, recorded)
    assert [40 - 5 - 3] == [tape.replays for tape in tapes]  # but for 5 rows of the log and 3 warm steps


@pytest.mark.usefixtures("rates_as_tensors")
@pytest.mark.parametrize(("planted", "share", "replays"), [(0, 0.1, [29]), (17, 0.0, [13, 16]), (17, 0.1, [13, 15])])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_steps_of_several_kinds(
    problem: str, planted: int, share: float, replays: list[int], tapes: list[Tape], tmp_path: Path
) -> None:
    """Those that plant wrong labels have a recording of their own; those that measure norms are taken one by one."""
    data, seeds = PROBLEMS[problem]
    flip = {"plant__flip": "all"} if planted else {}
    config = long(data, "mpl_cosine", method__feedback_share=share, plant__steps=planted, **flip)
    one_by_one = run(Trainer(config, seeds, CPU), tmp_path / "a")

    recorded = run(Trainer(config, seeds, CPU, record=CudaGraph), tmp_path / "b")

    assert_same_training(one_by_one, recorded)
    assert replays == [tape.replays for tape in tapes]


@pytest.mark.usefixtures("cifar10_workplace", "rates_as_tensors")
@pytest.mark.parametrize("arm", ["mpl", "mpl_released", "paper_mpl"])
def test_images(arm: str, tapes: list[Tape], tmp_path: Path) -> None:
    """In mixed precision where it may be, its views within the recorded step: bit for bit."""
    config = image_settings(arm, "budget.log_every=1000000")
    one_by_one = run(Trainer(config, 0, CPU), tmp_path / "a")

    recorded = run(Trainer(config, 0, CPU, record=CudaGraph), tmp_path / "b")

    assert_same_training(one_by_one, recorded)
    assert [8 - 1 - 3] == [tape.replays for tape in tapes]


@pytest.mark.parametrize("method", ["mpl", "mpl_shuffled"])
def test_stopped_and_resumed(method: str, tapes: list[Tape], tmp_path: Path) -> None:
    """A run that stops while it replays goes on in another process, which records anew: bit for bit."""
    config = long("digits", method)
    whole = run(Trainer(config, 0, CPU, record=CudaGraph), tmp_path / "a")
    for stopped_at in (8, 23):
        trainer = Trainer(config, 0, CPU, record=CudaGraph)
        with pytest.raises(Stopped):
            trainer.run(tmp_path / "b", stop=partial(lambda one, at: one.state.step == at, trainer, stopped_at))

    resumed = run(Trainer(config, 0, CPU, record=CudaGraph), tmp_path / "b")

    assert_same_training(whole, resumed)
    assert len(tapes) == 4


@pytest.mark.parametrize(("shape", "in_blocks"), [((4,), True), ((40, 300), True), ((300, 300), False)])
@pytest.mark.parametrize("seeds", [5, [5, 6]])
def test_draws_of_a_recorded_step(seeds: Any, shape: tuple[int, ...], in_blocks: bool) -> None:
    """The numbers of the step, whatever step comes after which; small draws come from blocks that stay in place."""
    plain, recorded = Streams(seeds), Streams(seeds)
    places = set()
    for step in (7, 8, 9, 7, 70_000, 70_001, 3):
        recorded.get_ready(step)
        found = recorded.integers("name", torch.tensor(step), 1000, shape)
        places |= {block.integers.data_ptr() for block in recorded._blocks.values()}

        assert torch.equal(plain.integers("name", step, 1000, shape), found)
    assert len(places) == in_blocks


def test_schedules_of_a_tensor_are_those_of_a_number() -> None:
    """At every step, to the precision of the tensor."""
    optimiser = Optimiser(learning_rate=0.3, schedule=Schedule.cosine, wait_steps=3, warmup_steps=4)
    for step in range(30):
        now = torch.tensor(step)
        rate, ramp = optim.learning_rate(optimiser, now, 30), optim.ramp(now, 7)
        assert rate.dtype == ramp.dtype == torch.float32
        assert float(rate) == pytest.approx(optim.learning_rate(optimiser, step, 30), rel=1e-6)
        assert float(ramp) == pytest.approx(optim.ramp(step, 7), rel=1e-6)
        assert float(optim.average_decay(0.9, now)) == pytest.approx(optim.average_decay(0.9, step), rel=1e-12)


@pytest.mark.parametrize(("current", "own"), [("default", "new"), ("of its seed", "of its seed")])
def test_warm_calls_and_recording_are_on_one_stream(current: str, own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device is waited for before and after each warm call; what is recorded runs when it is replayed."""
    done: list[str] = []

    class Graph:
        def replay(self) -> None:
            done.append("replay")

    @contextlib.contextmanager
    def stream(name: str) -> Iterator[None]:
        done.append(f"on {name}")
        yield
        done.append("off")

    def call(x: Tensor) -> dict[str, Tensor]:
        done.append("call")
        return {"y": x}

    for name, other in {
        "CUDAGraph": Graph, "graph": lambda _, stream: contextlib.nullcontext(done.append(f"record on {stream}")),
        "synchronize": lambda: done.append("wait"), "Stream": lambda: "new", "stream": stream,
        "current_stream": lambda: current, "default_stream": lambda: "default",
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, other)
    graph = CudaGraph(call)
    for _ in range(5):
        graph(torch.ones(1))

    assert done == 3 * ["wait", f"on {own}", "call", "off", "wait"] + [f"record on {own}", "call", "replay", "replay"]


def test_what_has_been_recorded_goes_with_its_training(tapes: list[Tape], tmp_path: Path) -> None:
    """At once, not when Python next collects: a graph holds the memory of a step, and one seed follows another."""
    trainer = run(Trainer(long("digits", "mpl"), 0, CPU, record=CudaGraph), tmp_path)
    weights = weakref.ref(trainer.state.learners["teacher"].model)
    tapes.clear()
    gc.disable()
    try:
        del trainer
        assert weights() is None
    finally:
        gc.enable()


def test_a_cpu_takes_steps_one_by_one(tapes: list[Tape], tmp_path: Path) -> None:
    """The setting is for GPUs: on a CPU it changes nothing."""
    plain, asked = long("digits", "mpl"), long("digits", "mpl", engine__cuda_graph=True)

    assert_same(all_weights(run(Trainer(plain, 0, CPU), tmp_path / "a")),
                all_weights(run(Trainer(asked, 0, CPU), tmp_path / "b")))  # fmt: skip
    assert not tapes


@pytest.mark.parametrize(("method", "planted", "why"), [
    ("pseudo_label", 0, "method.name = pseudo_label has steps of two kinds"),
    ("mpl", 5, ""),
])  # fmt: skip
def test_what_cannot_be_recorded_is_said(method: str, planted: int, why: str) -> None:
    """What is recorded is one step; the setting stands at the head of a plan, whose other runs it is for."""
    config = settings("digits", METHODS[method], engine__cuda_graph=True, plant__steps=planted)

    assert unrecordable(config) == why


def test_the_fastest_way_that_computes_the_same(tapes: list[Tape]) -> None:
    """Neither the one that does nothing nor the one that waits; afterwards the state is what it was."""
    trainer = Trainer(long("digits", "mpl"), 0, CPU)
    steps, said = trainer.steps, list[str]()
    assert steps.choose("", said.append) == ""  # on a CPU
    steps.chooses = True
    before = {name: value.clone() for name, value in trainer.state.state_dict().items()}

    def wrong(step: Function) -> Function:
        return lambda *_: {"student_loss": torch.zeros(())}

    def slow(step: Function) -> Function:
        return lambda *inputs: (time.sleep(0.2), step(*inputs))[1]

    steps.ways = {TAKEN: (None, False), "wrong": (wrong, False), "slow": (slow, False), "tape": (CudaGraph, False)}
    chosen = steps.choose("", said.append)

    assert chosen in {TAKEN, "tape"}
    assert said[-1] == f"steps are {chosen}"
    assert ["; left out" in line for line in said[:4]] == [False, True, False, False]
    assert_same(before, trainer.state.state_dict())
    assert (trainer.state.step, len(tapes)) == (0, 1 + (chosen == "tape"))
    assert steps.choose("slow", said.append) == "slow"  # of a run that goes on


def test_several_processes_are_refused() -> None:
    """Their messages are no part of a recorded step."""
    with pytest.raises(ConfigError, match=r"engine.cuda_graph = True: is for one process, not for 2"):
        Trainer(long("digits", "mpl", engine__cuda_graph=True), 0, CPU, world=World(0, 2))
