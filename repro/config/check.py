"""What values are possible. Each rule is one line: key, what must hold, and why or what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from repro.config.check_data import data_problems, network_problems
from repro.config.methods import Feedback, FeedbackScope, FixMatch, Mpl, PseudoLabel, PseudoLabelMethod
from repro.config.models import MoonsNet
from repro.config.schema import Config

_AT_LEAST_ONE = {"points", "labels", "test_points", "test_images", "width", "steps", "labelled_batch",
                 "unlabelled_batch", "log_every", "snapshots", "stack", "workers", "shuffle_window", "batch",
                 "teacher_steps", "threads", "train_images", "layers"}  # fmt: skip
_POSITIVE = {"temperature", "learning_rate", "initial_range", "norm_epsilon"}
_BELOW_ONE = {"label_smoothing", "student_label_smoothing", "dropout", "student_dropout", "teacher_dropout", "momentum",
              "average_decay", "norm_decay"}  # fmt: skip
_PROBABILITY = {"lowest_rate", "highest_rate"}
_MODELS = {"two_moons": {"moons_net"}, "digits": {"small_conv"}, "cifar10": {"wide_resnet", "resnet50"}}


def check(config: Config) -> list[str]:
    """Every rule that `config` breaks, as sentences naming key, value and remedy; empty when it can run."""
    return [*_ranges(config, ""), *_combinations(config)]


def _ranges(part: Any, path: str) -> Iterator[str]:
    for field in fields(part):
        value, key = getattr(part, field.name), f"{path}{field.name}"
        if is_dataclass(value):
            yield from _ranges(value, f"{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            problem = _out_of_range(field.name, key, value)
            if problem:
                yield f"{key} = {value}: {problem}"


def _out_of_range(name: str, key: str, value: float) -> str:
    """What must hold of a number and does not; empty when it is possible."""
    if not math.isfinite(value):
        return "must be a finite number"
    if name in _AT_LEAST_ONE and key != "finetune.steps":
        return "" if value >= 1 else "must be at least 1"
    if name in _POSITIVE:
        return "" if value > 0 else "must be above 0"
    if name in _BELOW_ONE:
        return "" if 0 <= value < 1 else "must lie in [0, 1)"
    if name in _PROBABILITY:
        return "" if 0 <= value <= 1 else "is a probability, must lie in [0, 1]"
    return "" if value >= 0 else "must not be negative"


def _combinations(config: Config) -> Iterator[str]:
    data, model, method, budget = config.data, config.model, config.method, config.budget
    yield from data_problems(data)
    if model.name not in _MODELS[data.name]:
        fitting = " or ".join(sorted(_MODELS[data.name]))
        yield f"model.name = {model.name} does not fit data.name = {data.name}; use {fitting}"
    yield from network_problems(model)
    if budget.stack > 1 and not isinstance(model, MoonsNet):
        yield f"budget.stack = {budget.stack}: model.name = {model.name} cannot be stacked; set it to 1"
    if budget.shortened_to > budget.steps:
        yield f"budget.shortened_to = {budget.shortened_to}: is longer than budget.steps = {budget.steps}; 0 keeps them"
    if budget.labelled_batch > data.labels:
        yield f"budget.labelled_batch = {budget.labelled_batch}: there are only data.labels = {data.labels}"
    if config.finetune.steps and config.finetune.batch > data.labels:
        yield f"finetune.batch = {config.finetune.batch}: there are only data.labels = {data.labels}"
    if isinstance(method, FixMatch | PseudoLabelMethod) and method.threshold > 1:
        yield f"method.threshold = {method.threshold}: is a probability, must lie in [0, 1]"
    if isinstance(method, PseudoLabelMethod) and method.teacher_steps >= budget.steps:
        yield f"method.teacher_steps = {method.teacher_steps}: leaves the student none of budget.steps = {budget.steps}"
    if isinstance(method, Mpl):
        yield from _mpl(method)
    yield from _schedules(config)


def _schedules(config: Config) -> Iterator[str]:
    method, budget = config.method, config.budget
    steps = {"student": budget.steps, "teacher": budget.steps}
    if isinstance(method, PseudoLabelMethod):
        steps = {"student": budget.steps - method.teacher_steps, "teacher": method.teacher_steps}
    for role, optimiser in (("student", config.optim.student), ("teacher", config.optim.teacher)):
        waited = optimiser.wait_steps + optimiser.warmup_steps
        if waited >= steps[role]:
            yield f"optim.{role}.wait_steps + warmup_steps = {waited}: leaves none of its {steps[role]} steps"


def _mpl(method: Mpl) -> Iterator[str]:
    if method.pseudo_label is PseudoLabel.soft and method.feedback_scope is FeedbackScope.example:
        yield "method.feedback_scope = example: is for hard labels; with pseudo_label = soft use feedback = exact"
    if (method.feedback is Feedback.exact) != (
        method.pseudo_label is PseudoLabel.soft
    ) and method.feedback is Feedback.exact:
        yield f"method.feedback = exact: weighs all classes, so wants pseudo_label = soft, not {method.pseudo_label}"
    if method.feedback_scope is FeedbackScope.example and method.feedback not in (Feedback.dot_product, Feedback.none):
        yield (f"method.feedback = {method.feedback}: has no value for each example; "
               "feedback_scope = example goes with dot_product")  # fmt: skip
    if method.baseline_rate > 1:
        yield f"method.baseline_rate = {method.baseline_rate}: must not exceed 1"
