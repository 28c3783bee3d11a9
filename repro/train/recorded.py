"""A function of tensors recorded once and replayed as a CUDA graph: one launch in place of thousands.

The work on the device is recorded; the work in Python happens in the first calls only. So numbers that change from call
to call must come from the function's inputs, never from Python, and tensors that it keeps between calls must stay in
place in memory. `tests/recording.py` checks this for recorded steps without a GPU.
"""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import ModuleType
from typing import cast

import torch
from torch import Tensor, nn

from repro.config import Config, unrecordable
from repro.engine.device import seconds_a_step
from repro.engine.distributed import World
from repro.methods import Method
from repro.methods.state import Batch, State
from repro.train.batches import Batches

Function = Callable[..., dict[str, Tensor]]
"""Of tensors."""

Record = Callable[[Function], Function]
"""Turns a function into a recorded one that computes the same."""

_WARM = 3  # calls before the recording, in which libraries choose their kernels and take the memory they keep


class CudaGraph:
    """`function`: its first calls run as usual, the next one is recorded, and all later ones replay the recording.

    All are on one stream, since allocator and libraries keep memory for each stream: the current one, or a new one
    where that is the default, on which nothing can be recorded. The function is of tensors of the same shapes and types
    at every call, waits for nothing, draws no random numbers of PyTorch's, and does not refer to this graph, whose
    memory the cycle would keep.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._calls = 0
        current, default = torch.cuda.current_stream(), torch.cuda.default_stream()
        self._stream = torch.cuda.Stream() if current == default else current  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._outputs: dict[str, Tensor] = {}

    def __call__(self, *inputs: Tensor) -> dict[str, Tensor]:
        """The function's outputs, in tensors that later calls do not change."""
        self._inputs = self._inputs or tuple(torch.empty_like(given).contiguous() for given in inputs)
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._calls += 1
        if self._calls <= _WARM:
            torch.cuda.synchronize()
            with torch.cuda.stream(self._stream):
                outputs = self._function(*self._inputs)
            torch.cuda.synchronize()
            return outputs
        if self._graph is None:
            graph = torch.cuda.CUDAGraph()
            with _nothing_collected(), torch.cuda.graph(graph, stream=self._stream):
                self._outputs = self._function(*self._inputs)
            self._graph = graph
        self._graph.replay()
        return {name: value.clone() for name, value in self._outputs.items()}


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """Collects garbage, then turns collection off for the block: to free another graph would end the recording."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Steps:
    """Takes the steps of a run, changing its state in place.

    A recorded step computes the same things in the same order, but its number and what depends on it are tensors. So it
    rounds a little differently: the product of learning rate and gradient before it is subtracted, weight averages, a
    rising weight of the UDA loss, the schedule's cosine. PyTorch's compiler decides where a compiled network rounds.

    `record` turns a function of tensors into a recorded one; by default into a CUDA graph, if the settings ask for it,
    the steps can be recorded and there is a GPU.
    """

    def __init__(
        self, config: Config, method: ModuleType, state: State, batches: Batches, world: World, record: Record | None
    ) -> None:
        self._config, self._method, self._state = config.method, method, state
        self._batches, self._world, self._planted = batches, world, config.plant.steps
        self._device, self._middle = batches.streams.device, config.budget.steps // 2
        self._models = [learner.model for learner in state.learners.values()]
        on_gpu, why, engine = self._device.type == "cuda", unrecordable(config), config.engine
        graph = CudaGraph if on_gpu and not why else None
        self._why_not = f"steps are {TAKEN}: {why}" if on_gpu and engine.cuda_graph and why else ""
        self.chooses = on_gpu and engine.fastest
        self.ways: dict[str, tuple[Record | None, bool]] = {TAKEN: (None, False)}
        self.ways |= {"recorded": (graph, False)} if graph else {}
        if config.budget.steps >= WORTH_COMPILING:
            self.ways |= {"compiled": (None, True)} | ({"recorded and compiled": (graph, True)} if graph else {})
        self.use(record or (graph if engine.cuda_graph else None), compiled=on_gpu and engine.compile)

    def use(self, record: Record | None, compiled: bool) -> None:
        """Sets how later steps are recorded, if at all, and whether networks are compiled."""
        kinds = {False: self._config} | ({True: self._config.while_planting()} if self._planted else {})
        rest = self._method, self._state, self._batches
        steps = {planting: partial(_step, planting, config, *rest) for planting, config in kinds.items()}
        self._recorded = {planting: record(step) for planting, step in steps.items()} if record else {}
        compiler = partial(torch.compile, dynamic=False) if compiled else None
        self._forwards = [compiler(model.forward) for model in self._models] if compiler else []

    def follow(self, config: Config) -> None:
        """Continues as a run of another length, whose steps are not recorded."""
        self._config = config.method

    def take(self, batch: Callable[..., Batch], probe: bool) -> dict[str, Tensor]:
        """Takes the next step, on what `batch` gives where it is not recorded; its metrics, means over processes."""
        now = self._state.step
        planting = now < self._planted
        config = self._config.while_planting() if planting else self._config
        with _in_place_of(self._models, self._forwards):
            if not self._recorded or probe or config.measures(now):
                metrics = self._method.step(self._state, batch(now, probe=probe), config)
            else:
                self._batches.streams.get_ready(now)
                step = torch.full((), now, dtype=torch.int64, device=self._device)
                metrics = self._recorded[planting](*self._batches.order(now), step)
                self._state.step = now + 1
        if not self._batches.hidden_labels_are_known:
            metrics.pop("pseudo_label_wrong", None)  # nobody can say
        return dict(zip(metrics, self._world.means(list(metrics.values())), strict=True))

    def choose(self, name: str, say: Callable[[str], None]) -> str:
        """If the settings ask for it, sets the way of later steps: `name`, or else the fastest; returns its name.

        Each way takes a step from the current weights, with the step number of mid-training, where no rate is 0. A way
        is left out if its update of some network differs by more than `ROUNDING` from that of the step taken one by
        one. The state is restored afterwards.
        """
        if self._why_not:
            say(self._why_not)
        if not self.chooses:
            return ""
        if not name:
            start, before = self._state.step, {k: v.clone() for k, v in self._state.state_dict().items()}
            found: dict[str, float] = {}
            wanted: list[Tensor] = []
            for way, (record, compiled) in self.ways.items():
                try:
                    self.use(record, compiled)
                    seconds_a_step(self._again, _TIMED, self._device)  # compiles, and records
                    self._state.load_state_dict(before, self._middle)
                    update = self._update()
                    wanted = wanted or update
                    off = max(_apart(mine, other) for mine, other in zip(update, wanted, strict=True))
                    seconds = seconds_a_step(self._again, _TIMED, self._device)
                    fits = off <= ROUNDING
                    say(f"{way}: {1000 * seconds:.1f} ms a step, an update {100 * off:.2g} % off the one {TAKEN}"
                        f"{'' if fits else '; left out'}")  # fmt: skip
                    found |= {way: seconds} if fits else {}
                except RuntimeError as error:
                    if way == TAKEN:
                        raise
                    say(f"{way}: left out: {(str(error).strip() or type(error).__name__).splitlines()[0]}")
                self._state.load_state_dict(before, start)
            name = min(found, key=lambda way: found[way])
            say(f"steps are {name}")
        self.use(*self.ways[name])
        return name

    def _again(self) -> None:
        self._state.step = self._middle
        self.take(self._batches.at, probe=False)

    def _update(self) -> list[Tensor]:
        """How a step changes each network's weights and momenta, as one long vector for each network."""

        def vectors() -> list[Tensor]:
            learners = self._state.learners.values()
            return [torch.cat([v.detach().flatten() for v in (*one.parameters, *one.momentum)]) for one in learners]

        before = vectors()
        self._again()
        return [now - then for now, then in zip(vectors(), before, strict=True)]


TAKEN = "taken one by one"
ROUNDING = 0.1
"""Share of an update's length: in bfloat16 some sampled pseudo label may differ; a wrong step is off by all of it."""
WORTH_COMPILING = 20_000
"""Steps: the compiler takes a minute or two, which a short run does not win back."""
_TIMED = 20


def _apart(update: Tensor, wanted: Tensor) -> float:
    """The length of the difference as a share of the wanted length; infinite if it is not finite."""
    off = ((update - wanted).norm() / wanted.norm().clamp_min(1e-30)).item()
    return off if math.isfinite(off) else math.inf


@contextlib.contextmanager
def _in_place_of(models: Sequence[nn.Module], forwards: Sequence[Callable[..., Tensor]]) -> Iterator[None]:
    """Puts these forward passes, if any, in place of the models' own for the block: other uses compile nothing."""
    own = [model.forward for model in models] if forwards else []
    try:
        for model, forward in zip(models, forwards, strict=False):
            model.forward = forward
        yield
    finally:
        for model, forward in zip(models, own, strict=False):
            model.forward = forward


def _step(
    planting: bool, config: Method, method: ModuleType, state: State, batches: Batches, labelled: Tensor,
    unlabelled: Tensor, step: Tensor,
) -> dict[str, Tensor]:  # fmt: skip
    """A step of the method on the examples of these indices; the state's own step number is restored."""
    before = state.step
    # A copy, since methods count it up in place. `State` declares an int, which it is at any other time.
    state.step = cast("int", step.clone())
    try:
        metrics: dict[str, Tensor] = method.step(
            state, batches.of(labelled, unlabelled, step, planting=planting), config
        )
        return metrics
    finally:
        state.step = before
