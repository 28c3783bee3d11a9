"""What values are possible. Each rule is one line: key, what must hold, and why or what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from repro.config.check_data import data_problems, network_problems
from repro.config.data import FolderData
from repro.config.limits import LIMITS
from repro.config.methods import Feedback, FeedbackScope, Mpl, PseudoLabel, PseudoLabelMethod
from repro.config.models import MoonsNet, ResNet50
from repro.config.schema import Config, Precision

_OF_IMAGES = {"wide_resnet", "resnet50", "airbench"}
_MODELS = {"two_moons": {"moons_net"}, "digits": {"small_conv"}, "cifar10": _OF_IMAGES, "svhn": _OF_IMAGES,
           "folder": _OF_IMAGES}  # fmt: skip


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
    yield from data_problems(data)
    if model.name not in _MODELS[data.name]:
        fitting = " or ".join(sorted(_MODELS[data.name]))
        yield f"model.name = {model.name} does not fit data.name = {data.name}; use {fitting}"
    yield from network_problems(model)
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
    if isinstance(method, PseudoLabelMethod) and method.teacher_steps >= steps:
        yield f"method.teacher_steps = {method.teacher_steps}: leaves the student none of budget.steps = {steps}"
    if isinstance(method, Mpl):
        yield from _mpl(method)
        yield from _mixed_precision(config, method)


def _recorded(config: Config) -> Iterator[str]:
    """What is recorded once happens at every step, on the GPU alone."""
    if not config.engine.cuda_graph:
        return
    said = "engine.cuda_graph = True"
    method = config.method
    if isinstance(method, PseudoLabelMethod):
        yield f"{said}: method.name = {method.name} has steps of two kinds; set it to false"
    if isinstance(method, Mpl) and method.feedback_share:
        yield f"{said}: method.feedback_share = {method.feedback_share} measures in some steps; set one of the two to 0"
    if isinstance(config.data, FolderData):
        yield f"{said}: data.name = folder reads the images of each step from files; set it to false"


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


def _mixed_precision(config: Config, method: Mpl) -> Iterator[str]:
    """PyTorch has no forward-mode derivative of a convolution whose image and kernel autocast makes bfloat16."""
    single = method.feedback is Feedback.dot_product and method.feedback_scope is FeedbackScope.example
    if config.engine.precision is Precision.float32 or isinstance(config.model, MoonsNet):
        return
    if single or method.feedback is Feedback.exact:
        yield (f"engine.precision = bfloat16: h for each example (method.feedback = {method.feedback}, "
               f"method.feedback_scope = {method.feedback_scope}) has no derivative in it; use float32")  # fmt: skip


def _schedules(config: Config) -> Iterator[str]:
    method, budget = config.method, config.budget
    steps = dict.fromkeys(("student", "teacher"), (budget.steps, f"budget.steps = {budget.steps}"))
    if isinstance(method, PseudoLabelMethod):
        teaching = method.teacher_steps
        steps["student"] = (budget.steps - teaching, f"budget.steps - method.teacher_steps = {budget.steps - teaching}")
        steps["teacher"] = (teaching, f"method.teacher_steps = {teaching}")
    for role, optimiser in (("student", config.optim.student), ("teacher", config.optim.teacher)):
        (count, said), waited = steps[role], optimiser.wait_steps + optimiser.warmup_steps
        if waited >= count:
            yield f"optim.{role}.wait_steps + optim.{role}.warmup_steps = {waited}: leaves none of {said}"


def _mpl(method: Mpl) -> Iterator[str]:
    if method.uda.name != "uda":
        yield f"method.uda.name = {method.uda.name}: must be uda"
    others = method.teacher_supervised or method.uda.weight or method.teacher_pseudo_label.weight
    if method.feedback_share and not others:
        yield (f"method.feedback_share = {method.feedback_share}: is a share of the teacher's other gradients, and it "
               "has no other loss; set feedback_share to 0")  # fmt: skip
    if method.feedback_share and method.feedback_weight != 1:
        yield (f"method.feedback_weight = {method.feedback_weight}: method.feedback_share = {method.feedback_share} "
               "decides how large feedback is; set feedback_weight to 1")  # fmt: skip
    if method.pseudo_label is PseudoLabel.soft and method.feedback_scope is FeedbackScope.example:
        yield ("method.feedback_scope = example: is for hard labels; "
               "with method.pseudo_label = soft use method.feedback = exact")  # fmt: skip
    if method.feedback is Feedback.exact and method.pseudo_label is not PseudoLabel.soft:
        yield (f"method.feedback = exact: weighs all classes, so wants method.pseudo_label = soft, "
               f"not {method.pseudo_label}")  # fmt: skip
    if method.feedback_scope is FeedbackScope.example and method.feedback not in (Feedback.dot_product, Feedback.none):
        yield (f"method.feedback = {method.feedback}: has no value for each example; "
               f"method.feedback_scope = example goes with dot_product")  # fmt: skip
