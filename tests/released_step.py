"""Training steps on the released code's inputs from its initial values, and how far they end from where it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from repro import optim as optim_room
from repro.methods import Baseline, BatchNormBatch, Feedback, FeedbackSign, Mpl, PseudoLabel, Uda, mpl
from repro.methods.state import Batch, State
from repro.models import WideResNet
from repro.models.networks import build_model
from repro.optim import norm
from repro.seeding import Draws, Streams
from repro.settings import AverageStart, Optim, Optimiser, Schedule
from tests.released import Arrays, give_weights, images, released_name, to_released, unpack

SCOPES = {"student": "model/wrn-28-1/", "teacher": "teacher/wrn-28-1/"}
RATE = 0.1 * 4 / 256  # of 0.1 for 256 labelled images; there are 4


def released_method(ramp_steps: int) -> Mpl:
    """The released code's choices, as our options."""
    uda = Uda(weight=8, ramp_steps=ramp_steps, temperature=0.7, threshold=0.6, label_smoothing=0.15)
    return Mpl(
        pseudo_label=PseudoLabel.soft, feedback=Feedback.finite_difference, feedback_sign=FeedbackSign.new_minus_old,
        feedback_batch_norm=BatchNormBatch.released, baseline=Baseline.moving_average, student_label_smoothing=0.15,
        uda=uda,
    )  # fmt: skip


def released_optim(wait: int, student_warmup: int, teacher_warmup: int, clip: float) -> Optim:
    """The released code's optimisers."""
    common = {"schedule": Schedule.cosine, "momentum": 0.9, "weight_decay": 5e-4, "clip_norm": clip}
    return Optim(
        student=Optimiser(RATE, wait_steps=wait, warmup_steps=student_warmup, **common),  # type: ignore[arg-type]
        teacher=Optimiser(RATE, warmup_steps=teacher_warmup, **common),  # type: ignore[arg-type]
        average_decay=0.995,
        average_start=AverageStart.released,
    )


@dataclass
class Setup:
    """What a comparison runs: the released code's settings, unless a test changes them."""

    case: str  # A: three steps far into training; B: the first six of twelve, with clipping
    model: WideResNet
    method: Mpl
    optim: Optim
    total_steps: int
    first_step: int
    edit: Callable[[State], None] = field(default=lambda _: None)  # of the state before the first step


def setup(case: str) -> Setup:
    """The settings of case A or B."""
    model = WideResNet(width=1, student_dropout=0.0, teacher_dropout=0.0)
    if case == "A":
        return Setup(case, model, released_method(5000), released_optim(3000, 5000, 5000, 1e6), 300_000, 8500)
    return Setup(case, model, released_method(3), released_optim(2, 2, 3, 2.0), 12, 0)


def start(given: Setup, golden: Arrays, dtype: torch.dtype = torch.float32) -> State:
    """Both networks at the released code's initial values."""
    state = mpl.init(
        lambda role: build_model(given.model, 10, Streams(0), role).to(dtype), given.method, given.optim,
        given.total_steps, (),
    )  # fmt: skip
    variables = unpack(golden, "state0")
    for role, scope in SCOPES.items():
        give_weights(state.learners[role].model, variables, f"state0/{scope}")
    state.memory = {key: value.to(dtype) for key, value in state.memory.items()}
    state.step = given.first_step
    given.edit(state)
    return state


def batch_of(golden: Arrays, step: int, dtype: torch.dtype = torch.float32) -> Batch:
    """The inputs of step 1, 2, ...; after the third they come again."""
    place = f"data{(step - 1) % 3 + 1}"
    labelled, weak, strong = (
        images(golden[f"{place}/{name}"]).to(dtype) for name in ("l_images", "u_images_ori", "u_images_aug")
    )
    labels = torch.from_numpy(golden[f"{place}/l_labels"]).argmax(dim=-1)
    return Batch(labelled, labels, weak, strong, torch.zeros(len(weak), dtype=torch.int64), Draws(Streams(0), step))


def observed_step(state: State, batch: Batch, config: Mpl) -> dict[str, Tensor]:
    """One step of `mpl.step`, and what it computed, under the released code's tags."""
    seen: dict[str, list[Any]] = {name: [] for name in ("teacher_loss", "feedback_loss", "consistency", "clip_norm")}
    logits: dict[str, list[Tensor]] = {"teacher": [], "student": []}
    rates = {f"log/lr/{role}": learner.learning_rate(state.step) for role, learner in state.learners.items()}
    with pytest.MonkeyPatch.context() as patch:
        for name, calls in seen.items():
            module: Any = optim_room if name == "clip_norm" else mpl
            patch.setattr(module, name, _spy(getattr(module, name), calls))
        hooks = [
            learner.model.register_forward_hook(lambda _m, _x, out, role=role: logits[role].append(out.detach()))
            for role, learner in state.learners.items()
        ]
        metrics = mpl.step(state, batch, config)
        for hook in hooks:
            hook.remove()
    ((_, (loss, _)),), (((h, *_), feedback),) = seen["teacher_loss"], seen["feedback_loss"]
    kept = (seen["consistency"][0][1] > 0).double()
    old = metrics["noise_floor"] + metrics["student_labelled_loss"]
    (teacher,), (joint, _, new) = logits["teacher"], logits["student"]
    b, u = len(batch.labels), len(batch.weak)
    values = rates | {
        "log/global_step": state.step,
        "log/cross_entropy/student_on_u": metrics["student_loss"],
        "log/cross_entropy/student_on_l": old - metrics["feedback"],
        "log/cross_entropy/teacher_on_u": metrics["uda_loss"],
        "log/cross_entropy/teacher_on_l": metrics["teacher_labelled_loss"],
        "log/mpl/dot_product": h,
        "log/mpl/moving_dot_product": -state.memory["baseline"],
        "log/uda/u_ratio": kept.mean(),
        "log/uda/weight": (loss - metrics["teacher_labelled_loss"]) / metrics["uda_loss"],
        "extra/cross_entropy/student_on_l_old": old,
        "extra/cross_entropy/mpl": feedback / h,
        "extra/mpl/raw_dot_product": -metrics["feedback"],
        "extra/teacher_loss": loss + feedback,
        "extra/grad_norm/student": norm(seen["clip_norm"][0][0][0], ()),
        "extra/grad_norm/teacher": norm(seen["clip_norm"][1][0][0], ()),
        "extra/logits/l": teacher[:b],
        "extra/logits/u_ori": teacher[b : b + u],
        "extra/logits/u_aug": teacher[b + u :],
        "extra/logits/s_on_u": joint[:u],
        "extra/logits/s_on_l_old": joint[u:],
        "extra/logits/s_on_l_new": new,
        "extra/mask/u": kept[:, None],
    }
    return {tag: torch.as_tensor(value, dtype=torch.float64).detach() for tag, value in values.items()}


def _spy(function: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    """The function, which notes its arguments and what it returns."""

    def spied(*args: Any) -> Any:
        calls.append((args, function(*args)))
        return calls[-1][1]

    return spied


def variables(state: State) -> Arrays:
    """Everything the released code keeps of training, by its names, flat, in its layout and float64."""
    found: dict[str, Tensor] = {}
    for role, learner in state.learners.items():
        scope = SCOPES[role]
        found |= {scope + released_name(key): value for key, value in learner.model.state_dict().items()}
        names = [scope + released_name(key) for key, _ in learner.model.named_parameters()]
        found |= {f"{name}/Momentum": slot for name, slot in zip(names, learner.momentum, strict=True)}
    average = state.learners["student"].average
    found |= {f"ema/{SCOPES['student']}{released_name(key)}": value for key, value in average.items()}
    return {name: to_released(value).copy() for name, value in found.items()}
