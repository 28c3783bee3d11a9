"""The teacher of Meta Pseudo Labels: what it sees in a step, and what it learns besides the student's feedback."""

from __future__ import annotations

import torch
from torch import Tensor

from repro.losses import consistency, cross_entropy, probabilities
from repro.methods import Mpl, SelfTraining
from repro.methods.labelled import labelled_inputs, labelled_loss_of
from repro.methods.state import Batch, logits_of
from repro.optim.learner import Learner
from repro.optim.schedules import ramp
from repro.seeding import Step
from repro.settings import View


def teacher_logits(teacher: Learner, batch: Batch, config: Mpl) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of labelled, weak and strong examples, which share their batch statistics.

    Where only one view of the unlabelled ones is passed through, it stands for both.
    """
    wanted = config.teacher_views
    views = [x for view, x in ((View.weak, batch.weak), (View.strong, batch.strong)) if view in wanted]
    inputs = [labelled_inputs(batch, config.teacher_labelled_view, config.teacher_mixup), *views]
    logits = logits_of(teacher, inputs, batch.draws, "teacher dropout")
    labelled, *unlabelled = torch.split(logits, [view.shape[len(teacher.lead)] for view in inputs], dim=-2)
    return labelled, unlabelled[0], unlabelled[-1]


def teacher_loss(
    labelled_logits: Tensor, weak_logits: Tensor, strong_logits: Tensor, batch: Batch, step_now: Step, config: Mpl
) -> tuple[Tensor, dict[str, Tensor]]:
    """What the teacher learns besides feedback, [*lead]: labels, UDA, its own pseudo labels; each may be left out."""
    loss, metrics = torch.zeros_like(labelled_logits[..., 0, 0]), {}
    if config.teacher_supervised:
        loss = labelled_loss_of(labelled_logits, batch, config.teacher_mixup, config.uda.label_smoothing)
        metrics["teacher_labelled_loss"] = loss.detach()
    if config.uda.weight:
        unlabelled = consistency(weak_logits, strong_logits, config.uda.temperature, config.uda.threshold).mean(dim=-1)
        metrics["uda_loss"] = unlabelled.detach()
        loss = loss + config.uda.weight * ramp(step_now, config.uda.ramp_steps) * unlabelled
    if config.teacher_pseudo_label.weight:
        own, mask_rate = self_training_loss(weak_logits, config.teacher_pseudo_label)
        metrics |= {"teacher_pseudo_label_loss": own.detach(), "teacher_mask_rate": mask_rate}
        weight = config.teacher_pseudo_label.weight * ramp(step_now, config.teacher_pseudo_label.ramp_steps)
        loss = loss + weight * own
    return loss, metrics


def self_training_loss(logits: Tensor, config: SelfTraining) -> tuple[Tensor, Tensor]:
    """Cross-entropy of logits [*lead, U, K] to their own argmax where that is confident (Lee 2013), and the share used.

    Both [*lead]; the loss is divided by all U examples. The label is that of the same pass: it moves with the teacher.
    """
    confidence, labels = probabilities(logits.detach()).max(dim=-1)
    mask = (confidence >= config.threshold).to(logits.dtype)
    return (mask * cross_entropy(logits, labels)).mean(dim=-1), mask.mean(dim=-1)
