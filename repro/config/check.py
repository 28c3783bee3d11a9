"""What values are possible. Each rule is one line: key, what must hold, and why or what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from repro.config.methods import Feedback, FeedbackScope, FixMatch, Mpl, PseudoLabel, PseudoLabelMethod
from repro.config.schema import Config, DigitsData, MoonsNet, TwoMoonsData

_AT_LEAST_ONE = {"points", "labels", "test_points", "test_images", "width", "steps", "labelled_batch",
                 "unlabelled_batch", "log_every", "snapshots", "stack", "workers", "shuffle_window", "batch",
                 "teacher_steps"}  # fmt: skip
_POSITIVE = {"temperature", "learning_rate", "initial_range"}
_BELOW_ONE = {"label_smoothing", "student_label_smoothing", "dropout", "momentum", "average_decay"}


def check(config: Config) -> list[str]:
    """Every rule that `config` breaks, as sentences naming key, value and remedy; empty when it can run."""
    return [*_ranges(config, ""), *_combinations(config)]


def _ranges(part: Any, path: str) -> Iterator[str]:
    for field in fields(part):
        value, key = getattr(part, field.name), f"{path}{field.name}"
        if is_dataclass(value):
            yield from _ranges(value, f"{key}.")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            continue
        elif not math.isfinite(value):
            yield f"{key} = {value}: must be a finite number"
        elif key == "finetune.steps" or field.name not in _AT_LEAST_ONE | _POSITIVE | _BELOW_ONE:
            if value < 0:
                yield f"{key} = {value}: must not be negative"
        elif field.name in _AT_LEAST_ONE and value < 1:
            yield f"{key} = {value}: must be at least 1"
        elif field.name in _POSITIVE and value <= 0:
            yield f"{key} = {value}: must be above 0"
        elif field.name in _BELOW_ONE and not 0 <= value < 1:
            yield f"{key} = {value}: must lie in [0, 1)"


def _combinations(config: Config) -> Iterator[str]:
    data, model, method, budget = config.data, config.model, config.method, config.budget
    yield from _data(data)
    if isinstance(data, TwoMoonsData) != isinstance(model, MoonsNet):
        yield f"model.name = {model.name} does not fit data.name = {data.name}; moons_net goes with two_moons only"
    if budget.stack > 1 and not isinstance(model, MoonsNet):
        yield f"budget.stack = {budget.stack}: model.name = {model.name} cannot be stacked; set it to 1"
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


def _data(data: TwoMoonsData | DigitsData) -> Iterator[str]:
    if isinstance(data, DigitsData):
        if data.labels % 10:
            yield f"data.labels = {data.labels}: must be a multiple of the 10 classes"
        held = data.labels + data.test_images
        if held > 1700:
            yield f"data.labels + data.test_images = {held}: leaves fewer than 97 of the 1,797 images unlabelled"
        return
    if data.points % 2 or data.labels % 2:
        yield f"data.points = {data.points}, data.labels = {data.labels}: both are split evenly, so must be even"
    if data.labels >= data.points:
        yield f"data.labels = {data.labels}: leaves none of data.points = {data.points} unlabelled"


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
