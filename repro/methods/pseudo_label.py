"""Pseudo labels with a fixed teacher (Lee 2013; the paper's section 1 and its two-moons comparison).

A teacher learns from the labels for `teacher_steps` and is then fixed. A student learns from the teacher's argmax
labels, where the teacher is confident enough, and from the labelled images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from repro.losses import cross_entropy, probabilities
from repro.methods import PseudoLabelMethod
from repro.methods.state import Batch, BuildModel, State, logits_of, new_learner
from repro.models.layers import frozen_statistics
from repro.settings import Optim


def init(build: BuildModel, config: PseudoLabelMethod, optim: Optim, steps: int, lead: tuple[int, ...]) -> State:
    """A teacher trained for `teacher_steps` and a student trained for the rest, each with its own whole schedule."""
    return State(
        {
            "teacher": new_learner("teacher", build, optim, config.teacher_steps, lead),
            "student": new_learner("student", build, optim, steps - config.teacher_steps, lead),
        }
    )


def step(state: State, batch: Batch, config: PseudoLabelMethod) -> dict[str, Tensor]:
    """One step of the teacher, or, once it is fixed, of the student."""
    teaching = state.step < config.teacher_steps
    metrics = _teacher_step(state, batch, config) if teaching else _student_step(state, batch, config)
    state.step += 1
    return metrics


def _teacher_step(state: State, batch: Batch, config: PseudoLabelMethod) -> dict[str, Tensor]:
    teacher = state.learners["teacher"]
    logits = logits_of(teacher, [batch.labelled], batch.draws, "teacher dropout")
    loss = cross_entropy(logits, batch.labels, config.label_smoothing).mean(dim=-1)
    teacher.apply(teacher.gradients(loss), state.step)
    nothing = torch.zeros_like(loss.detach())
    return {"teacher_labelled_loss": loss.detach(), "pseudo_label_loss": nothing, "mask_rate": nothing,
            "pseudo_label_wrong": nothing}  # fmt: skip


def _student_step(state: State, batch: Batch, config: PseudoLabelMethod) -> dict[str, Tensor]:
    teacher, student = state.learners["teacher"], state.learners["student"]
    labelled_count = batch.labels.shape[-1]

    with torch.no_grad(), frozen_statistics(teacher.model):
        teacher.model.eval()
        logits = teacher.model(batch.weak)
        teacher.model.train()
    confidence, pseudo_labels = probabilities(logits).max(dim=-1)
    mask = (confidence >= config.threshold).to(logits.dtype)

    logits = logits_of(student, [batch.labelled, batch.weak], batch.draws, "student dropout")
    labelled_logits, unlabelled_logits = logits[..., :labelled_count, :], logits[..., labelled_count:, :]
    unlabelled_loss = (mask * cross_entropy(unlabelled_logits, pseudo_labels, config.label_smoothing)).mean(dim=-1)
    labelled_loss = cross_entropy(labelled_logits, batch.labels, config.label_smoothing).mean(dim=-1)
    loss = unlabelled_loss + labelled_loss if config.student_labels else unlabelled_loss
    student.apply(student.gradients(loss), state.step - config.teacher_steps)

    wrong = (pseudo_labels != batch.hidden_labels).to(loss.dtype).mean(dim=-1)
    return {"teacher_labelled_loss": torch.zeros_like(loss.detach()), "pseudo_label_loss": unlabelled_loss.detach(),
            "mask_rate": mask.mean(dim=-1), "pseudo_label_wrong": wrong}  # fmt: skip
