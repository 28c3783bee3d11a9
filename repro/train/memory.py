"""What a run takes of memory, found before it starts: a step on tensors without data, each storage counted as it lives.

How far that is from what a CPU takes stands in REPRODUCE.md, "Small machines" (`python -m tests.small_machines`).
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from repro.config.methods import TwoPhases
from repro.config.models import MoonsNet, SmallConv
from repro.config.schema import Config, Engine, Precision
from repro.data import cifar10, source_of
from repro.data.sets import Seeds, SmallImages
from repro.data.svhn import Svhn
from repro.engine.device import choose_device
from repro.engine.place import place
from repro.losses import cross_entropy
from repro.methods import METHODS
from repro.methods.state import State
from repro.models.build import build_model
from repro.optim.learner import Learner
from repro.seeding import Streams
from repro.train.cost import empty_batch

_SMALL = 2**20  # examples of a step times the network's width
_LIBRARIES = 150 * 2**20  # bytes that a process takes when it begins to train, as measured with the digits


def bytes_needed(config: Config, side_by_side: int = 1) -> int:
    """Of one process at its peak: training data, networks with momenta and averages, a copy of those, and a step.

    All that for each of so many trainings side by side. The copy is for tracing NaN. Workspaces inside an operation are
    not counted. On a CPU what was measured lies within 15 % of this.
    """
    state, streams = untrained(config)
    data, unlabelled = _data(config)
    weights = bytes_of(state.state_dict().values())
    steps = {config.budget.steps - 1} | ({0} if isinstance(config.method, TwoPhases) else set())
    most = max(_step_bytes(config, state, streams, step, min(config.budget.unlabelled_batch, unlabelled))
               for step in steps)  # fmt: skip
    if config.finetune.steps:
        most = max(most, _finetuning_bytes(config, state))
    if config.engine.cuda_graph and choose_device().type == "cuda":
        most += most - weights  # a recorded step keeps its memory, and one with probes takes its own
    most = max(most, 2 * weights)  # two copies for a moment, while one replaces another
    return round(_lost(config.engine) * (_LIBRARIES + side_by_side * (data + weights + most)))


def _lost(engine: Engine) -> float:
    """Times what is counted a CPU's allocator takes, since tensors that come and go leave gaps: as measured."""
    if choose_device().type != "cpu":
        return 1.0
    return 1.4 if engine.recompute else 1.15 if engine.micro_batches > 1 else 1.0


def untrained(config: Config) -> tuple[State, Streams]:
    """Networks without data, which takes PyTorch two seconds to begin with; what is small is as quick with data."""
    streams = Streams(_seeds(config), _place_of(config))
    engine = replace(config.engine, precision=Precision.float32)  # there is no mixed precision without data
    classes = source_of(config.data).classes
    state: State = METHODS[config.method.name].init(
        lambda role: _as_float32(place(build_model(config.model, classes, streams, role), engine, streams.device)),
        config.method, config.optim, config.budget.steps, streams.lead,
    )  # fmt: skip
    return state, streams


def _as_float32(model: nn.Module) -> nn.Module:
    """The network, whose logits come out as float32 whatever it computes in, as those of a run do."""
    forward = model.forward
    model.forward = lambda *inputs: forward(*inputs).float()
    return model


def _place_of(config: Config) -> torch.device:
    budget, width = config.budget, config.model.width
    examples = budget.stack * max(budget.labelled_batch + 2 * budget.unlabelled_batch, config.finetune.batch)
    small = isinstance(config.model, MoonsNet | SmallConv) and examples * width <= _SMALL
    return torch.device("cpu" if small else "meta")


def _step_bytes(config: Config, state: State, streams: Streams, step: int, unlabelled: int) -> int:
    """Of networks, batch and all that lives in the step, with the probes that some steps have."""
    state.step = step
    peak = _Peak(state.state_dict().values())
    with precision_without_data(config), peak:
        batch = empty_batch(config, config.budget.labelled_batch, unlabelled, streams, step, probe=True)
        METHODS[config.method.name].step(state, batch, config.method)
    return peak.most


def _finetuning_bytes(config: Config, state: State) -> int:
    """Of networks, the copy of the one that is finetuned, and a step of that."""
    learner: Learner = state.learners[METHODS[config.method.name].COUNTED]
    device, lead = learner.parameters[0].device, learner.lead
    learner.model.eval()
    peak = _Peak(state.state_dict().values())
    with precision_without_data(config), peak:
        kept = {key: value.detach().clone() for key, value in learner.model.state_dict().items()}
        logits = learner.model(torch.zeros(*lead, config.finetune.batch, *config.data.shape, device=device))
        labels = torch.zeros(*lead, config.finetune.batch, dtype=torch.int64, device=device)
        learner.gradients(cross_entropy(logits, labels).mean(dim=-1))
        del kept
    return peak.most


def _data(config: Config) -> tuple[int, int]:
    """Bytes of the training data, and how many examples are unlabelled.

    Of CIFAR-10 there are the files as read, and the labelled and unlabelled images taken from them. SVHN's unlabelled
    images and those of a folder stay in their files.
    """
    data: Any = config.data
    if isinstance(source_of(data), Svhn):
        on_gpu = choose_device().type == "cuda"
        images = data.labels + (data.unlabelled if on_gpu else 0)
        return math.prod(data.shape) * images, data.unlabelled
    if isinstance(source_of(data), SmallImages):
        unlabelled = data.unlabelled
        return math.prod(data.shape) * (cifar10.IMAGES["train"] + data.labels + unlabelled), unlabelled
    content = source_of(data).training_set(_seeds(config))
    tensors = [part for part in vars(content).values() if isinstance(part, Tensor)]
    return bytes_of(tensors), content.hidden_labels.shape[-1]


def _seeds(config: Config) -> Seeds:
    """Those of one process, which may as well be the first."""
    return list(range(config.budget.stack)) if config.budget.stack > 1 else 0


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Of all tensors together."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class _Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that live at the same time, those of `before` among them, and keeps the most."""

    def __init__(self, before: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.most = 0, 0
        self._alive: dict[int, Any] = {}  # weak references by address
        for tensor in before:
            self._see(tensor.untyped_storage())

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """There is no compiler here to keep out, and keeping it out would load it."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, Tensor):
                self._see(result.untyped_storage())
        return results

    def _see(self, storage: UntypedStorage) -> None:
        address, size = storage._cdata, storage.nbytes()  # noqa: SLF001 - nothing else tells one storage from another
        if address not in self._alive:
            self._alive[address] = weakref.ref(storage, lambda _: self._gone(address, size))
            self.now += size
            self.most = max(self.most, self.now)

    def _gone(self, address: int, size: int) -> None:
        del self._alive[address]
        self.now -= size


class _Bfloat16(TorchFunctionMode):
    """Stands in for automatic mixed precision where there are no data: the operations that it makes bfloat16."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in {functional.conv2d, functional.linear}:
            args = [value.bfloat16() if isinstance(value, Tensor) else value for value in args]
        return func(*args, **(kwargs or {}))


def precision_without_data(config: Config) -> AbstractContextManager[Any]:
    """In which the networks of `untrained` compute as precisely as those of a run."""
    return _Bfloat16() if config.engine.precision is Precision.bfloat16 else nullcontext()
