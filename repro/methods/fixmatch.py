"""FixMatch (Sohn et al. 2020, arXiv 2001.07685, Eqs. 3 and 4).

loss = CE(labels, f(x_l)) + weight * mean[ max p_weak >= threshold ] CE(argmax p_weak, f(strong x_u))
"""

from __future__ import annotations

import torch
from torch import Tensor

from repro.losses import cross_entropy, probabilities
from repro.methods import FixMatch
from repro.methods.state import Batch, BuildModel, State, logits_of, new_learner
from repro.settings import Optim


def init(build: BuildModel, config: FixMatch, optim: Optim, steps: int, lead: tuple[int, ...]) -> State:
    """One network, in the role of MPL's teacher so that the two start alike."""
    return State({"teacher": new_learner("teacher", build, optim, steps, lead)})


def step(state: State, batch: Batch, config: FixMatch) -> dict[str, Tensor]:
    """One step on labelled, weak and strong examples together, which share their batch statistics."""
    learner = state.learners["teacher"]

    views = [batch.labelled, batch.weak, batch.strong]
    logits = logits_of(learner, views, batch.draws, "teacher dropout")
    labelled_logits, weak_logits, strong_logits = torch.split(
        logits, [v.shape[len(learner.lead)] for v in views], dim=-2
    )

    confidence, pseudo_labels = probabilities(weak_logits.detach()).max(dim=-1)
    mask = (confidence >= config.threshold).to(logits.dtype)
    unlabelled_loss = (mask * cross_entropy(strong_logits, pseudo_labels)).mean(dim=-1)
    labelled_loss = cross_entropy(labelled_logits, batch.labels, config.label_smoothing).mean(dim=-1)
    loss = labelled_loss + config.weight * unlabelled_loss

    learner.apply(learner.gradients(loss), state.step)
    state.step += 1
    wrong = (pseudo_labels != batch.hidden_labels).to(logits.dtype).mean(dim=-1)
    return {"labelled_loss": labelled_loss.detach(), "unlabelled_loss": unlabelled_loss.detach(),
            "mask_rate": mask.mean(dim=-1), "pseudo_label_wrong": wrong}  # fmt: skip
