"""What a run costs, counted rather than measured: the arithmetic of its steps."""

from __future__ import annotations

import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from repro.config.methods import TwoPhases
from repro.config.schema import Config
from repro.data import source_of
from repro.methods import METHODS
from repro.methods.state import Batch, State
from repro.models.build import build_model
from repro.seeding import Draws, Streams

_FEW, _MORE = 2, 4  # images of the batches whose arithmetic is counted


def run_flops(config: Config) -> float:
    """Floating-point operations of a whole run of one seed; a fixed teacher and its student train in turn."""
    steps, method = config.budget.steps, config.method
    if isinstance(method, TwoPhases):
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
    state: State = METHODS[config.method.name].init(
        lambda role: build_model(config.model, classes, streams, role).to(device),
        config.method, config.optim, config.budget.steps, (),
    )  # fmt: skip
    return state


def _step(config: Config, state: State, labelled: int, unlabelled: int) -> None:
    streams = Streams(0, next(iter(state.learners.values())).parameters[0].device)
    METHODS[config.method.name].step(
        state, empty_batch(config, labelled, unlabelled, streams, state.step), config.method
    )


def empty_batch(
    config: Config, labelled: int, unlabelled: int, streams: Streams, step: int, *, probe: bool = False
) -> Batch:
    """A batch as a step of training sees it, but of zeros: so many examples, on the device of `streams`."""
    lead, shape, device = streams.lead, config.data.shape, streams.device
    seen, weak, strong = (torch.zeros(*lead, n, *shape, device=device) for n in (labelled, unlabelled, unlabelled))
    labels, hidden = (torch.zeros(*lead, n, dtype=torch.int64, device=device) for n in (labelled, unlabelled))
    return Batch(
        seen, labels, weak, strong, hidden, Draws(streams, step), probe, strong_labelled=seen, labelled_index=labels,
        unlabelled_index=hidden, everything=lambda: ([seen], [weak]),
    )  # fmt: skip
