"""Unsupervised Data Augmentation (Xie et al. 2020, arXiv 1904.12848), as the paper's teacher uses it.

loss = CE(labels, f(x_l)) + weight * ramp(step) * consistency(f(weak x_u), f(strong x_u))
"""

from __future__ import annotations

import torch
from torch import Tensor

from repro.losses import consistency, cross_entropy
from repro.methods import Uda
from repro.methods.state import Batch, BuildModel, State, logits_of, new_learner
from repro.optim import ramp
from repro.settings import Optim


def init(build: BuildModel, config: Uda, optim: Optim, steps: int, lead: tuple[int, ...]) -> State:
    """One network, in the role of MPL's teacher: with feedback off, MPL's teacher is this network bit for bit."""
    return State({"teacher": new_learner("teacher", build, optim, steps, lead)})


def step(state: State, batch: Batch, config: Uda) -> dict[str, Tensor]:
    """One step on labelled, weak and strong examples together, which share their batch statistics.

    With weight 0 the unlabelled examples are not looked at, and the step is the supervised one.
    """
    learner = state.learners["teacher"]

    views = [batch.labelled, batch.weak, batch.strong] if config.weight else [batch.labelled]
    logits = logits_of(learner, views, batch.draws, "teacher dropout")
    labelled_logits, *unlabelled = torch.split(logits, [view.shape[len(learner.lead)] for view in views], dim=-2)
    labelled_loss = cross_entropy(labelled_logits, batch.labels, config.label_smoothing).mean(dim=-1)
    metrics = {"labelled_loss": labelled_loss.detach()}
    loss = labelled_loss

    if config.weight:
        weak_logits, strong_logits = unlabelled
        unlabelled_loss = consistency(weak_logits, strong_logits, config.temperature, config.threshold).mean(dim=-1)
        loss = loss + config.weight * ramp(state.step, config.ramp_steps) * unlabelled_loss
        wrong = (weak_logits.argmax(dim=-1) != batch.hidden_labels).to(loss.dtype).mean(dim=-1)
        metrics |= {"uda_loss": unlabelled_loss.detach(), "pseudo_label_wrong": wrong}

    learner.apply(learner.gradients(loss), state.step)
    state.step += 1
    return metrics
