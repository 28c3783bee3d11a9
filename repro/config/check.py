"""What values are possible. Each rule is one line: key, what must hold, and why or what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from repro.config.limits import LIMITS
from repro.config.methods import Feedback, FeedbackScope, Mpl, PseudoLabel, ReducedMpl, TwoPhases
from repro.config.models import MoonsNet, ResNet50, WideResNet, fits
from repro.config.schema import CHOICES, Config, Precision


def check(config: Config) -> list[str]:
    """Every rule that `config` breaks, as sentences naming key, value and remedy; empty when it can run."""
    return [*_ranges(config, ""), *_combinations(config)]


def _ranges(part: Any, path: str) -> Iterator[str]:
    for field in fields(part):
        value, key = getattr(part, field.name), f"{path}{field.name}"
        if is_dataclass(value):
            yield from _ranges(value, f"{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            problem = LIMITS[type(part)][field.name].problem(value)
            if problem:
                yield f"{key} = {value}: {problem}"


def _combinations(config: Config) -> Iterator[str]:
    data, model, budget = config.data, config.model, config.budget
    yield from data.problems()
    if not fits(type(model), data.shape):
        fitting = " or ".join(sorted(name for name, kind in CHOICES["model"].items() if fits(kind, data.shape)))
        yield f"model.name = {model.name} does not fit data.name = {data.name}; use {fitting}"
    if isinstance(model, WideResNet) and (model.depth - 4) % 6:
        yield f"model.depth = {model.depth}: must be 6 n + 4 with n at least 1, such as 10, 16 or 28"
    if budget.stack > 1 and not isinstance(model, MoonsNet):
        yield f"budget.stack = {budget.stack}: model.name = {model.name} cannot be stacked; set it to 1"
    if budget.shortened_to > budget.steps:
        yield f"budget.shortened_to = {budget.shortened_to}: is longer than budget.steps = {budget.steps}; 0 keeps them"
    if 0 < data.labels < budget.labelled_batch:
        yield f"budget.labelled_batch = {budget.labelled_batch}: there are only data.labels = {data.labels}"
    if config.finetune.steps and 0 < data.labels < config.finetune.batch:
        yield f"finetune.batch = {config.finetune.batch}: there are only data.labels = {data.labels}"
    if isinstance(model, ResNet50):
        yield from _deep(config, model)
    yield from _methods(config)
    yield from _recorded(config)
    yield from _schedules(config)


def _methods(config: Config) -> Iterator[str]:
    method, steps = config.method, config.budget.steps
    if isinstance(method, TwoPhases) and method.teacher_steps >= steps:
        yield f"method.teacher_steps = {method.teacher_steps}: leaves the student none of budget.steps = {steps}"
    if isinstance(method, ReducedMpl) and method.mpl.name != "mpl":
        yield f"method.mpl.name = {method.mpl.name}: must be mpl"
    if isinstance(method, Mpl | ReducedMpl):
        inner, key = (method, "method") if isinstance(method, Mpl) else (method.mpl, "method.mpl")
        yield from _mpl(inner, key)
        yield from _mixed_precision(config, inner, key)


def _recorded(config: Config) -> Iterator[str]:
    """What is recorded once happens at every step, on the GPU alone."""
    if not config.engine.cuda_graph:
        return
    said = "engine.cuda_graph = True"
    if isinstance(config.method, TwoPhases):
        yield f"{said}: method.name = {config.method.name} has steps of two kinds; set it to false"
    method = config.method.mpl if isinstance(config.method, ReducedMpl) else config.method
    if isinstance(method, Mpl) and method.feedback_share:
        yield f"{said}: method.feedback_share = {method.feedback_share} measures in some steps; set one of the two to 0"
    if config.data.in_files:
        yield f"{said}: data.name = {config.data.name} reads the images of each step from files; set it to false"


def _deep(config: Config, model: ResNet50) -> Iterator[str]:
    """ResNet-50 ends with one value for each channel and image: batch norm finds no variance in a single image."""
    for key in ("labelled_batch", "unlabelled_batch"):
        if getattr(config.budget, key) < 2:
            yield f"budget.{key} = 1: model.name = resnet50 normalises over the batch, so wants at least 2 images"
    if config.engine.channels_last and model.width < 4:
        # https://github.com/uxlfoundation/oneDNN/issues/6035: the backward pass of such a convolution, on a CPU
        yield (f"engine.channels_last = True: with model.width = {model.width} strided 1x1 convolutions have fewer "
               "than 16 channels, for which oneDNN writes past its memory; set it to false, or the width to at least 4"
               )  # fmt: skip


def _mixed_precision(config: Config, method: Mpl, key: str) -> Iterator[str]:
    """PyTorch has no forward-mode derivative of a convolution whose image and kernel autocast makes bfloat16."""
    single = method.feedback is Feedback.dot_product and method.feedback_scope is FeedbackScope.example
    if config.engine.precision is Precision.float32 or isinstance(config.model, MoonsNet):
        return
    if single or method.feedback is Feedback.exact:
        yield (f"engine.precision = bfloat16: h for each example ({key}.feedback = {method.feedback}, "
               f"{key}.feedback_scope = {method.feedback_scope}) has no derivative in it; use float32")  # fmt: skip


def _schedules(config: Config) -> Iterator[str]:
    method, budget = config.method, config.budget
    steps = dict.fromkeys(("student", "teacher"), (budget.steps, f"budget.steps = {budget.steps}"))
    if isinstance(method, TwoPhases):
        teaching = method.teacher_steps
        steps["student"] = (budget.steps - teaching, f"budget.steps - method.teacher_steps = {budget.steps - teaching}")
        steps["teacher"] = (teaching, f"method.teacher_steps = {teaching}")
        if isinstance(method, ReducedMpl):  # the perceptron has the teacher's optimiser, and the student's steps
            steps["teacher"] = min(steps["teacher"], steps["student"])
    for role, optimiser in (("student", config.optim.student), ("teacher", config.optim.teacher)):
        (count, said), waited = steps[role], optimiser.wait_steps + optimiser.warmup_steps
        if waited >= count:
            yield f"optim.{role}.wait_steps + optim.{role}.warmup_steps = {waited}: leaves none of {said}"


def _mpl(method: Mpl, key: str) -> Iterator[str]:
    if method.uda.name != "uda":
        yield f"{key}.uda.name = {method.uda.name}: must be uda"
    others = method.teacher_supervised or method.uda.weight or method.teacher_pseudo_label.weight
    if method.feedback_share and not others:
        yield (f"{key}.feedback_share = {method.feedback_share}: is a share of the teacher's other gradients, and it "
               "has no other loss; set feedback_share to 0")  # fmt: skip
    if method.feedback_share and method.feedback_weight != 1:
        yield (f"{key}.feedback_weight = {method.feedback_weight}: {key}.feedback_share = {method.feedback_share} "
               "decides how large feedback is; set feedback_weight to 1")  # fmt: skip
    if method.pseudo_label is PseudoLabel.soft and method.feedback_scope is FeedbackScope.example:
        yield (f"{key}.feedback_scope = example: is for hard labels; "
               f"with {key}.pseudo_label = soft use {key}.feedback = exact")  # fmt: skip
    if method.feedback is Feedback.exact and method.pseudo_label is not PseudoLabel.soft:
        yield (f"{key}.feedback = exact: weighs all classes, so wants {key}.pseudo_label = soft, "
               f"not {method.pseudo_label}")  # fmt: skip
    if method.feedback_scope is FeedbackScope.example and method.feedback not in (Feedback.dot_product, Feedback.none):
        yield (f"{key}.feedback = {method.feedback}: has no value for each example; "
               f"{key}.feedback_scope = example goes with dot_product")  # fmt: skip
