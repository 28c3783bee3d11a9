"""The student of Meta Pseudo Labels: the labels it is given, its step, and the feedback it gives (Eqs. 6 to 12)."""

from __future__ import annotations

import torch
from torch import Tensor

from repro.losses import cross_entropy, one_hot, probabilities, smooth, soft_cross_entropy
from repro.methods import BatchNormBatch, Feedback, FeedbackScope, Mpl, PseudoLabel
from repro.methods.feedback import as_entered, gradient_feedback, labelled_loss, mean_feedback, shuffle_in_time
from repro.methods.state import Batch, State, logits_of
from repro.seeding import Step
from repro.settings import View


def pseudo_label_targets(logits: Tensor, batch: Batch, config: Mpl) -> Tensor:
    """Target probabilities [*lead, U, K] from the teacher's logits, one-hot unless soft."""
    p = probabilities(logits)
    if config.pseudo_label is PseudoLabel.soft:
        return p
    if config.pseudo_label is PseudoLabel.argmax:
        labels = p.argmax(dim=-1)
    else:  # inversion: the first class whose cumulated probability exceeds a uniform number
        uniform = batch.draws.uniform("pseudo label", (logits.shape[-2],))
        below = p.cumsum(dim=-1) <= uniform[..., None].to(p.dtype)
        labels = below.sum(dim=-1).clamp_max(logits.shape[-1] - 1)
    return one_hot(labels, logits.shape[-1]).to(logits.dtype)


def student_step(
    state: State, batch: Batch, targets: Tensor, config: Mpl, step: Step
) -> tuple[Tensor | None, dict[str, Tensor]]:
    """Moves the student and says how that changed its labelled loss: h, and None where feedback is off.

    `step` is counted from the student's first one.
    """
    student, lead = state.learners["student"], len(state.learners["student"].lead)
    x_u = batch.strong if config.student_view is View.strong else batch.weak
    released = config.feedback_batch_norm is BatchNormBatch.released

    # The loss on pseudo labels; the released code measures the labelled loss before the step in the same pass.
    inputs = [x_u, batch.labelled] if released else [x_u]
    logits = logits_of(student, inputs, batch.draws, "student dropout")
    unlabelled_logits, labelled_logits = logits[..., : targets.shape[-2], :], logits[..., targets.shape[-2] :, :]
    loss = soft_cross_entropy(unlabelled_logits, smooth(targets, config.student_label_smoothing)).mean(dim=-1)
    gradient = student.gradients(loss)
    by_difference = config.feedback in {Feedback.finite_difference, Feedback.shuffled}
    measures = by_difference or batch.probe
    alone = labelled_loss(student, batch) if measures else torch.full_like(loss.detach(), torch.nan)
    by_example = config.feedback is Feedback.exact or config.feedback_scope is FeedbackScope.example
    before = [parameter.detach().clone() for parameter in student.parameters] if by_example else []

    student.apply(gradient, step)

    metrics = {"student_loss": loss.detach()} | ({"student_labelled_loss": alone} if measures else {})
    if config.feedback is Feedback.none:
        return None, metrics
    if by_difference:
        old = cross_entropy(labelled_logits, batch.labels).mean(dim=-1).detach() if released else alone
        h = old - labelled_loss(student, batch)
        h = batch.mean_over_processes(h)  # one h for the whole batch, whoever holds which part of it
        metrics["noise_floor"] = old - alone  # what h would be, had the student not moved
    else:
        h = gradient_feedback(student, before, gradient, inputs, targets, batch, config, step)
    metrics["feedback"] = mean_feedback(h, targets, batch, lead)
    if config.feedback is Feedback.shuffled:
        h = shuffle_in_time(h, batch, step, state.memory)
    return as_entered(h, config, state.memory, batch.mean_over_processes), metrics


def feedback_loss(h: Tensor, targets: Tensor, pseudo_logits: Tensor, config: Mpl) -> Tensor:
    """The teacher's feedback loss, [*lead]; h is constant.

    One h for the batch: h * mean_i CE(y^_i, T(x_i)) (Algorithm 1). One for each example: mean_i h_i CE(y^_i, T(x_i)).
    Exact: -mean_i sum_k T(x_i)_k h_ik, whose gradient is what sampling estimates (Appendix A).
    With soft pseudo labels and one h, target and prediction are the same distribution and the gradient is zero.
    """
    if config.feedback is Feedback.exact:
        return -(probabilities(pseudo_logits) * h).sum(dim=-1).mean(dim=-1)
    losses = soft_cross_entropy(pseudo_logits, targets)
    return (h * losses).mean(dim=-1) if config.feedback_scope is FeedbackScope.example else h * losses.mean(dim=-1)


def pseudo_labels_wrong(targets: Tensor, batch: Batch) -> dict[str, Tensor]:
    """How many pseudo labels are wrong, by the labels that training does not see."""
    right = targets.gather(-1, batch.hidden_labels[..., None]).squeeze(-1).mean(dim=-1)
    return {"pseudo_label_wrong": 1 - right}
