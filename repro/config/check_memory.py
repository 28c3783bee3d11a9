"""Where the settings that save memory are possible."""

from __future__ import annotations

from collections.abc import Iterator

from repro.config.methods import Feedback, FeedbackScope, Mpl, ReducedMpl
from repro.config.models import MoonsNet, ResNet50, WideResNet
from repro.config.schema import Config


def memory_problems(config: Config) -> Iterator[str]:
    """Rules for `engine.recompute` and `engine.micro_batches`."""
    engine, model = config.engine, config.model
    chunks = engine.micro_batches
    if engine.recompute and not isinstance(model, WideResNet | ResNet50):
        yield (f"engine.recompute = True: model.name = {model.name} has no residual blocks that could be computed "
               "again; set it to false")  # fmt: skip
    if chunks == 1:
        if engine.recompute:
            yield from _forward_mode(config, "engine.recompute = True", "set it to false")
        return
    if isinstance(model, MoonsNet):
        yield (f"engine.micro_batches = {chunks}: model.name = {model.name} is small and not cut into chunks; "
               "set it to 1")  # fmt: skip
    yield from _forward_mode(config, f"engine.micro_batches = {chunks}", "set it to 1, and engine.recompute to false")
    yield from _batches(config)


def _batches(config: Config) -> Iterator[str]:
    """A chunk has at least 2 examples to normalise over."""
    budget, chunks = config.budget, config.engine.micro_batches
    counts = {"budget.labelled_batch": budget.labelled_batch}
    if config.method.name != "supervised":
        counts["budget.unlabelled_batch"] = budget.unlabelled_batch
        if (unlabelled := getattr(config.data, "unlabelled", None)) is not None:
            counts["the number of unlabelled images"] = unlabelled
    for key, examples in counts.items():
        if examples < 2 * chunks:
            yield (f"{key} = {examples}: engine.micro_batches = {chunks} normalises over chunks, so wants at least "
                   f"{2 * chunks}, 2 for each; set engine.micro_batches to at most {max(1, examples // 2)}"
                   )  # fmt: skip


def _forward_mode(config: Config, said: str, remedy: str) -> Iterator[str]:
    """What is computed again in a backward pass has no forward-mode derivative."""
    method = config.method.mpl if isinstance(config.method, ReducedMpl) else config.method
    if not isinstance(method, Mpl):
        return
    single = method.feedback is Feedback.dot_product and method.feedback_scope is FeedbackScope.example
    if single or method.feedback is Feedback.exact:
        yield (f"{said}: h for each example (method.feedback = {method.feedback}, method.feedback_scope = "
               f"{method.feedback_scope}) is a forward-mode derivative, which nothing that is computed again has; "
               f"{remedy}")  # fmt: skip
