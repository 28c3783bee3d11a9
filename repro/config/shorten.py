"""The `reduced` form of a recipe: the same training over fewer steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from repro.config.methods import Mpl, PseudoLabelMethod, SelfTraining, Uda
from repro.config.schema import Config, Optim, Optimiser


def shortened(config: Config) -> Config:
    """`config` over `budget.shortened_to` steps: its schedules shrink by the same factor, rounded.

    Wait, warm-up, ramp, the fixed teacher's steps, and the steps between rows of the log shrink with the whole; batch
    sizes, learning rates, finetuning and everything else stay. What was done is said in `budget.reduced`, so that the
    run counts as reduced. 0, or the recipe's own length, changes nothing.
    """
    budget = config.budget
    if budget.shortened_to in (0, budget.steps):
        return config
    factor = budget.shortened_to / budget.steps
    said = f"{budget.shortened_to:,} of {budget.steps:,} steps; wait, warm-up and ramp shortened alike"
    return replace(
        config,
        method=_method(config.method, factor),
        optim=_optim(config.optim, factor),
        budget=replace(
            budget,
            steps=budget.shortened_to,
            log_every=max(1, round(budget.log_every * factor)),
            reduced="; ".join(part for part in (said, budget.reduced) if part),
        ),
    )


def _optim(optim: Optim, factor: float) -> Optim:
    def shorter(optimiser: Optimiser) -> Optimiser:
        wait, warmup = round(optimiser.wait_steps * factor), round(optimiser.warmup_steps * factor)
        return replace(optimiser, wait_steps=wait, warmup_steps=warmup)

    return replace(optim, student=shorter(optim.student), teacher=shorter(optim.teacher))


def _method(method: Any, factor: float) -> Any:
    if isinstance(method, Uda | SelfTraining):
        return replace(method, ramp_steps=round(method.ramp_steps * factor))
    if isinstance(method, Mpl):
        taught = _method(method.teacher_pseudo_label, factor)
        return replace(method, uda=_method(method.uda, factor), teacher_pseudo_label=taught)
    if isinstance(method, PseudoLabelMethod):
        return replace(method, teacher_steps=max(1, round(method.teacher_steps * factor)))
    return method
