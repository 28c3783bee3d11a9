"""Meta Pseudo Labels: Pham et al. 2021, arXiv 2003.10580, Algorithm 1, Eqs. 6 to 12, Appendices A to C.

    paper                       here                     shape
    x_l, y_l                    batch.labelled, .labels  [*lead, B, *E], [*lead, B]
    x_u                         batch.weak, .strong      [*lead, U, *E]
    T(x; theta_T)               the teacher's logits     [*lead, N, K]
    y^_u ~ T(x_u; theta_T)      targets                  [*lead, U, K], one-hot unless soft
    theta_S, theta_S'           the student before and after its step
    h                           h                        [*lead], or [*lead, U(, K)] for each example (and class)

`lead` is () for one run, (R,) for R runs stacked. Each disputed choice is a field of `Mpl`, by name. The forms of h
stand in `feedback.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from repro.losses import consistency, cross_entropy, one_hot, probabilities, smooth, soft_cross_entropy
from repro.methods import BatchNormBatch, Feedback, FeedbackScope, Mpl, PseudoLabel, SelfTraining
from repro.methods.feedback import as_entered, before_the_step, feedback, held_scale, initial_memory
from repro.methods.state import Batch, BuildModel, State, logits_of, new_learner
from repro.methods.supervised import labelled_inputs, labelled_loss_of
from repro.optim import Learner, norm, ramp
from repro.seeding import Step
from repro.settings import Optim, View


def init(build: BuildModel, config: Mpl, optim: Optim, steps: int, lead: tuple[int, ...]) -> State:
    """A teacher and a student that start from different weights, and the memory of past feedback."""
    learners = {role: new_learner(role, build, optim, steps, lead) for role in ("teacher", "student")}
    device = learners["student"].parameters[0].device
    return State(learners, memory=initial_memory(config, lead, device))


def step(state: State, batch: Batch, config: Mpl) -> dict[str, Tensor]:
    """Algorithm 1: one step of student and teacher."""
    teacher, student = state.learners["teacher"], state.learners["student"]

    # The teacher passes through everything once; its own step waits for the student's answer.
    labelled_logits, weak_logits, strong_logits = teacher_logits(teacher, batch, config)
    pseudo_logits = strong_logits if config.pseudo_label_view is View.strong else weak_logits

    # Pseudo labels y^_u ~ T(x_u; theta_T).
    targets = pseudo_label_targets(pseudo_logits.detach(), batch, config)

    # The student's step on them: theta_S' = theta_S - eta_S grad CE(y^_u, S(x_u; theta_S)).
    inputs = student_inputs(batch, config)
    logits = logits_of(student, inputs, batch.draws, "student dropout")
    student_loss = student_loss_on(logits, targets, config)
    gradient = student.gradients(student_loss)
    before = before_the_step(student, logits, batch, config)
    student.apply(gradient, state.step)

    # Its feedback: h = eta_S <grad CE(y_l, S(x_l; theta_S')), grad CE(y^_u, S(x_u; theta_S))>, or another form of it.
    h, metrics = feedback(student, before, gradient, inputs, targets, batch, config, state)

    # The teacher's losses: supervised and UDA, or others in their place; and h CE(y^_u, T(x_u; theta_T)).
    loss, teacher_metrics = teacher_loss(labelled_logits, weak_logits, strong_logits, batch, state.step, config)
    if h is not None:
        mpl_loss = feedback_loss(as_entered(h, config, state.memory, batch), targets, pseudo_logits, config)
        if config.feedback_share:
            metrics["feedback_scale"] = held_scale(teacher, loss, mpl_loss, config, state.memory, state.step)
            mpl_loss = metrics["feedback_scale"] * mpl_loss
        metrics |= gradient_norms(teacher, mpl_loss, loss) if batch.probe else {}
        loss = loss + mpl_loss

    # The teacher's step on the sum of all.
    if loss.requires_grad:
        teacher.apply(teacher.gradients(loss), state.step)

    state.step += 1
    wrong = 1 - targets.gather(-1, batch.hidden_labels[..., None]).squeeze(-1).mean(dim=-1)
    return {"student_loss": student_loss.detach()} | metrics | teacher_metrics | {"pseudo_label_wrong": wrong}


def teacher_logits(teacher: Learner, batch: Batch, config: Mpl) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of labelled, weak and strong examples, which share their batch statistics.

    If only one view of the unlabelled examples is passed through, it stands for both.
    """
    views = [x for view, x in ((View.weak, batch.weak), (View.strong, batch.strong)) if view in config.teacher_views]
    inputs = [labelled_inputs(batch, config.teacher_labelled_view, config.teacher_mixup), *views]
    logits = logits_of(teacher, inputs, batch.draws, "teacher dropout")
    labelled, *unlabelled = torch.split(logits, [view.shape[len(teacher.lead)] for view in inputs], dim=-2)
    return labelled, unlabelled[0], unlabelled[-1]


def pseudo_label_targets(logits: Tensor, batch: Batch, config: Mpl) -> Tensor:
    """Target probabilities [*lead, U, K] from the teacher's logits, one-hot unless soft."""
    p = probabilities(logits)
    if config.pseudo_label is PseudoLabel.soft:
        return p
    if config.pseudo_label is PseudoLabel.argmax:
        return one_hot(p.argmax(dim=-1), p.shape[-1]).to(p.dtype)
    return sampled(p, batch.draws.uniform("pseudo label", (p.shape[-2],)))


def sampled(p: Tensor, uniform: Tensor) -> Tensor:
    """Classes drawn from p [*lead, U, K], one-hot: the first one whose cumulated probability exceeds a uniform number.

    `uniform`, [*lead, U], has one for each example (inversion).
    """
    below = p.cumsum(dim=-1) <= uniform[..., None].to(p.dtype)
    labels = below.sum(dim=-1).clamp_max(p.shape[-1] - 1)
    return one_hot(labels, p.shape[-1]).to(p.dtype)


def student_inputs(batch: Batch, config: Mpl) -> list[Tensor]:
    """What the student passes through before its step: the released code adds the labelled images to that batch."""
    unlabelled = batch.strong if config.student_view is View.strong else batch.weak
    released = config.feedback_batch_norm is BatchNormBatch.released
    return [unlabelled, batch.labelled] if released else [unlabelled]


def student_loss_on(logits: Tensor, targets: Tensor, config: Mpl) -> Tensor:
    """The student's loss on the pseudo labels, [*lead]; `logits` [*lead, N, K] begin with the U unlabelled ones."""
    smoothed = smooth(targets, config.student_label_smoothing)
    return soft_cross_entropy(logits[..., : targets.shape[-2], :], smoothed).mean(dim=-1)


def teacher_loss(
    labelled_logits: Tensor, weak_logits: Tensor, strong_logits: Tensor, batch: Batch, step_now: Step, config: Mpl
) -> tuple[Tensor, dict[str, Tensor]]:
    """What the teacher learns besides feedback, [*lead]: labels, UDA, its own pseudo labels; each may be left out."""
    loss, metrics = torch.zeros_like(labelled_logits[..., 0, 0]), {}
    if config.teacher_supervised:  # smoothed as UDA's labels are, whatever the weight of its other loss
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


def gradient_norms(teacher: Learner, mpl_loss: Tensor, other_loss: Tensor) -> dict[str, Tensor]:
    """The norms of the gradients of feedback and of the teacher's other terms, [*lead]."""
    norms = {"feedback_gradient_norm": norm(teacher.gradients(mpl_loss, retain_graph=True), teacher.lead)}
    if other_loss.requires_grad:
        norms["other_gradient_norm"] = norm(teacher.gradients(other_loss, retain_graph=True), teacher.lead)
    return norms
