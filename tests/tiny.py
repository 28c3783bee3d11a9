"""Small networks, batches and settings that the tests share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from repro.config import Config, as_mapping, read_config
from repro.methods import Mpl, mpl
from repro.methods.state import Batch, State
from repro.settings import Optim, Optimiser
from repro.train.checkpoint import Result
from repro.train.loop import Trainer

CPU = torch.device("cpu")
FEATURES, CLASSES, LABELLED = 4, 3, 5


class TinyNet(nn.Module):
    """4 -> 5 -> 3 in float64 without batch norm or dropout, smooth so that Taylor expansions hold."""

    noise_features = 0
    classes = CLASSES

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        for name, shape in {"w": (FEATURES, 5), "a": (5,), "v": (5, CLASSES), "b": (CLASSES,)}.items():
            setattr(self, name, nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)))

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """[N, 4] to logits [N, 3]."""
        return torch.tanh(x @ self.w + self.a) @ self.v + self.b


class FixedDraws:
    """Stands in for `Draws`: the pseudo labels' uniform numbers are given, no other is asked for."""

    def __init__(self, uniform: Tensor) -> None:
        self._uniform = uniform

    def uniform(self, name: str, shape: Sequence[int]) -> Tensor:
        """The given numbers."""
        assert name == "pseudo label"
        assert tuple(shape) == tuple(self._uniform.shape)
        return self._uniform


def tiny_state(config: Mpl, student_rate: float = 0.1) -> State:
    """A float64 teacher (rate 1, so that its step is its gradient) and student, plain gradient descent."""
    optim = Optim(student=Optimiser(learning_rate=student_rate), teacher=Optimiser(learning_rate=1.0))
    state = mpl.init(lambda role: TinyNet(1 if role == "teacher" else 2), config, optim, 100, ())
    state.memory = {key: value.double() for key, value in state.memory.items()}
    return state


def tiny_batch(unlabelled: int, uniform: Tensor | None = None) -> Batch:
    """5 labelled and some unlabelled examples; `uniform` decides the sampled pseudo labels."""
    generator = torch.Generator().manual_seed(3)
    labelled, unlabelled_x = (
        torch.randn((n, FEATURES), generator=generator, dtype=torch.float64) for n in (LABELLED, unlabelled)
    )
    labels = torch.randint(CLASSES, (LABELLED,), generator=generator)
    hidden = torch.zeros(unlabelled, dtype=torch.int64)
    draws: Any = FixedDraws(torch.full((unlabelled,), 0.5) if uniform is None else uniform)
    return Batch(labelled, labels, unlabelled_x, unlabelled_x, hidden, draws)


def uniform_for(state: State, batch: Batch, label: int) -> Tensor:
    """The uniform numbers with which the teacher's sampled pseudo labels are all `label`: the middle of its share."""
    probabilities = torch.softmax(state.learners["teacher"].model(batch.weak), dim=-1).detach()
    return probabilities.cumsum(dim=-1)[:, label] - probabilities[:, label] / 2


def weights(state: State, role: str) -> list[Tensor]:
    """A copy of a network's weights."""
    return [p.detach().clone() for p in state.learners[role].parameters]


def named(model: nn.Module) -> dict[str, Tensor]:
    """Differentiable copies of a network's weights by name."""
    return {k: p.detach().clone().requires_grad_() for k, p in model.named_parameters()}


def labelled_loss(model: nn.Module, parameters: dict[str, Tensor], batch: Batch) -> Tensor:
    """Labelled cross-entropy by PyTorch's own function."""
    return functional.cross_entropy(functional_call(model, parameters, (batch.labelled,)), batch.labels)


def teacher_gradient(state: State, batch: Batch, config: Mpl) -> list[Tensor]:
    """What the teacher's weights lost in one step at rate 1: the gradient of its loss."""
    before = weights(state, "teacher")
    mpl.step(state, batch, config)
    return [b - a for b, a in zip(before, weights(state, "teacher"), strict=True)]


def unrolled(batch: Batch, targets: Tensor, student_rate: float) -> Tensor:
    """L_l(theta_S - rate * grad CE(targets, S(x_u))), differentiable in `targets`."""
    model = tiny_state(Mpl()).learners["student"].model
    student = named(model)
    logits = functional_call(model, student, (batch.weak,))
    loss = functional.cross_entropy(logits, targets)
    gradients = torch.autograd.grad(loss, list(student.values()), create_graph=True)
    moved = {k: p - student_rate * g for (k, p), g in zip(student.items(), gradients, strict=True)}
    return labelled_loss(model, moved, batch)


def feedback_only(**changes: Any) -> Mpl:
    """Meta Pseudo Labels whose teacher has no loss but the feedback."""
    config = Mpl(teacher_supervised=False, **changes)
    config.uda.weight = 0.0
    return config


METHODS: dict[str, dict[str, Any]] = {
    "supervised": {"name": "supervised"},
    "pseudo_label": {"name": "pseudo_label", "teacher_steps": 9},
    "uda": {"name": "uda", "weight": 2.0, "temperature": 0.8, "ramp_steps": 10},
    "fixmatch": {"name": "fixmatch", "threshold": 0.5},
    "mpl": {"name": "mpl", "uda": {"weight": 2.0, "temperature": 0.8, "ramp_steps": 10}},
}  # fmt: skip


UDA = METHODS["mpl"]["uda"]
VARIANTS: dict[str, dict[str, Any]] = METHODS | {
    "supervised_mixup": {"name": "supervised", "mixup": 0.5, "labelled_view": "strong"},
    "mpl_own_labels": {"name": "mpl", "teacher_mixup": 1.0, "teacher_labelled_view": "strong",
                       "teacher_pseudo_label": {"weight": 1.0, "threshold": 0.5, "ramp_steps": 10}},
    "mpl_example": {"name": "mpl", "feedback_scope": "example", "uda": UDA},
    "mpl_exact": {"name": "mpl", "feedback": "exact", "pseudo_label": "soft", "uda": UDA},
    "mpl_released": {"name": "mpl", "feedback": "finite_difference", "feedback_sign": "new_minus_old",
                     "pseudo_label": "soft", "feedback_batch_norm": "released", "student_label_smoothing": 0.15,
                     "uda": UDA},
    "mpl_shuffled": {"name": "mpl", "feedback": "shuffled", "shuffle_window": 8, "pseudo_label": "argmax"},
    "mpl_cosine": {"name": "mpl", "feedback": "cosine", "baseline": "moving_average", "uda": UDA},
}  # fmt: skip
"""One of each kind of step: what a method looks at, its losses, every form of h."""


def settings(data: str, method: dict[str, Any], **changes: Any) -> Config:
    """A small problem: `data` is two_moons or digits; `changes` are dotted keys with __ for the dot."""
    moons = data == "two_moons"
    optimiser = {"learning_rate": 0.3 if moons else 0.1, "momentum": 0.9}
    mapping: dict[str, Any] = {
        "data": {"name": data} | ({"points": 60} if moons else {"labels": 20}),
        "model": {"name": "moons_net", "activation": "tanh", "initial_range": 0.5} if moons
        else {"name": "small_conv", "width": 2},
        "method": dict(method),
        "optim": {"student": dict(optimiser), "teacher": dict(optimiser)},
        "budget": {"steps": 20, "labelled_batch": 4, "unlabelled_batch": 12, "log_every": 5, "snapshots": 2},
        "finetune": {"batch": 4},
        "recipe": {},
    }  # fmt: skip
    for key, value in changes.items():
        *path, last = key.split("__")
        part = mapping
        for name in path:
            part = part.setdefault(name, {})
        part[last] = value
    return read_config(mapping)


def trained(config: Config, seeds: int | list[int] = 0, steps: int | None = None) -> Trainer:
    """A trainer after `steps` steps, by default all of them."""
    trainer = Trainer(config, seeds, CPU)
    for step in range(config.budget.steps if steps is None else steps):
        trainer.method.step(trainer.state, trainer.batch(step), config.method)
    return trainer


def left_by(trainer: Trainer, finetuned: dict[str, Tensor] | None = None) -> Result:
    """What a trained run of seed 0 leaves, its weights in memory."""
    snapshots, late = (list(trainer.kept.series[name]) for name in ("snapshots", "late"))
    counted = trainer.config.method.networks[-1]
    return Result(
        as_mapping(trainer.config), [0], False, counted, {"seconds": 1.0}, trainer.rows, snapshots, late,
        finetuned or {}, {},
    )  # fmt: skip


def all_weights(trainer: Trainer) -> dict[str, Tensor]:
    """Everything that the next step depends on."""
    return {key: value.detach().clone() for key, value in trainer.state.state_dict().items()}


def assert_same(expected: dict[str, Tensor], actual: dict[str, Tensor]) -> None:
    """Bit for bit."""
    assert expected.keys() == actual.keys()
    assert [] == [key for key in expected if not torch.equal(expected[key], actual[key])]


def assert_same_training(expected: Trainer, actual: Trainer) -> None:
    """All that the next step depends on, and the log, bit for bit."""
    assert_same(all_weights(expected), all_weights(actual))
    assert expected.rows == actual.rows
