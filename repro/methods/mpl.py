"""Meta Pseudo Labels: Pham et al. 2021, arXiv 2003.10580, Algorithm 1, Eqs. 6 to 12, Appendices A to C.

    paper                       here                     shape
    x_l, y_l                    batch.labelled, .labels  [*lead, B, *E], [*lead, B]
    x_u                         batch.weak, .strong      [*lead, U, *E]
    T(x; theta_T)               *_logits of the teacher  [*lead, N, K]
    y^_u ~ T(x_u; theta_T)      targets                  [*lead, U, K], one-hot unless soft
    theta_S, theta_S'           before, student          the student before and after its step
    eta_S                       rate                     a number
    h                           h                        [*lead], or [*lead, U(, K)] for each example (and class)

`lead` is () for one run, (R,) for R runs stacked. Each disputed choice is a field of `Mpl`, by name.
"""

from __future__ import annotations

import torch
from torch import Tensor

from repro.config.methods import BatchNormBatch, Feedback, FeedbackScope, Mpl, PseudoLabel, View
from repro.config.schema import Optim
from repro.losses import consistency, cross_entropy, one_hot, probabilities, smooth, soft_cross_entropy
from repro.methods.feedback import as_entered, gradient_feedback, labelled_loss, mean_feedback, shuffle_in_time
from repro.methods.state import Batch, BuildModel, State, logits_of, new_learner
from repro.optim.learner import Learner
from repro.optim.schedules import ramp
from repro.optim.vectors import norm

COUNTED = "student"


def views(config: Mpl) -> frozenset[View]:
    """The views of unlabelled examples that a step looks at."""
    uda = {View.weak, View.strong} if config.uda.weight else set()
    return frozenset({config.pseudo_label_view, config.student_view} | uda)


def init(build: BuildModel, config: Mpl, optim: Optim, steps: int, lead: tuple[int, ...]) -> State:
    """A teacher and a student that start from different weights, and the memory of past feedback."""
    learners = {role: new_learner(role, build, optim, steps, lead) for role in ("teacher", "student")}
    device = learners["student"].parameters[0].device
    memory = {"baseline": torch.zeros(lead, device=device)}
    if config.feedback is Feedback.shuffled:
        memory["feedback_history"] = torch.zeros(*lead, config.shuffle_window, device=device)
    return State(learners, memory=memory)


def step(state: State, batch: Batch, config: Mpl) -> dict[str, Tensor]:
    """One step of student and teacher; the lines stand in Algorithm 1's order."""
    teacher = state.learners["teacher"]

    # The teacher sees everything once; its loss is complete when the student has answered.
    labelled_logits, weak_logits, strong_logits = teacher_logits(teacher, batch, config)
    pseudo_logits = strong_logits if config.pseudo_label_view is View.strong else weak_logits

    # 1. Pseudo labels y^_u ~ T(x_u; theta_T).
    targets = pseudo_label_targets(pseudo_logits.detach(), batch, config)

    # 2. The student's step theta_S' = theta_S - eta_S grad CE(y^_u, S(x_u; theta_S)).
    # 3. The student's feedback h (Eq. 12, or another form of it).
    h, metrics = student_step(state, batch, targets, config)

    # 4. The teacher's feedback loss h * CE(y^_u, T(x_u; theta_T)), with the same pseudo labels.
    # 5. Its supervised loss and its UDA loss; then its step on the sum of all.
    loss, teacher_metrics = teacher_loss(labelled_logits, weak_logits, strong_logits, batch, state.step, config)
    if h is not None:
        mpl_loss = feedback_loss(h, targets, pseudo_logits, config)
        if batch.probe:
            metrics["feedback_gradient_norm"] = norm(teacher.gradients(mpl_loss, retain_graph=True), teacher.lead)
        loss = loss + mpl_loss
    if loss.requires_grad:
        teacher.apply(teacher.gradients(loss), state.step)

    state.step += 1
    return metrics | teacher_metrics | _pseudo_label_metrics(targets, batch)


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


def student_step(state: State, batch: Batch, targets: Tensor, config: Mpl) -> tuple[Tensor | None, dict[str, Tensor]]:
    """Moves the student and says how that changed its labelled loss: h, and None where feedback is off."""
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
    before = [parameter.detach().clone() for parameter in student.parameters]

    student.apply(gradient, state.step)

    metrics = {"student_loss": loss.detach()} | ({"student_labelled_loss": alone} if measures else {})
    if config.feedback is Feedback.none:
        return None, metrics
    if by_difference:
        old = cross_entropy(labelled_logits, batch.labels).mean(dim=-1).detach() if released else alone
        h = old - labelled_loss(student, batch)
        h = batch.mean_over_processes(h)  # one h for the whole batch, whoever holds which part of it
        metrics["noise_floor"] = old - alone  # what h would be, had the student not moved
    else:
        h = gradient_feedback(student, before, gradient, inputs, targets, batch, config, state.step)
    metrics["feedback"] = mean_feedback(h, targets, batch, lead)
    if config.feedback is Feedback.shuffled:
        h = shuffle_in_time(h, batch, state.step, state.memory)
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


def teacher_loss(
    labelled_logits: Tensor, weak_logits: Tensor, strong_logits: Tensor, batch: Batch, step_now: int, config: Mpl
) -> tuple[Tensor, dict[str, Tensor]]:
    """What the teacher learns besides feedback, [*lead]: labels and UDA, either of which may be left out."""
    loss, metrics = torch.zeros_like(labelled_logits[..., 0, 0]), {}
    if config.teacher_supervised:
        loss = cross_entropy(labelled_logits, batch.labels, config.uda.label_smoothing).mean(dim=-1)
        metrics["teacher_labelled_loss"] = loss.detach()
    if config.uda.weight:
        unlabelled = consistency(weak_logits, strong_logits, config.uda.temperature, config.uda.threshold).mean(dim=-1)
        metrics["uda_loss"] = unlabelled.detach()
        loss = loss + config.uda.weight * ramp(step_now, config.uda.ramp_steps) * unlabelled
    return loss, metrics


def teacher_logits(teacher: Learner, batch: Batch, config: Mpl) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of labelled, weak and strong examples, which share their batch statistics.

    Without UDA only the view that is labelled is passed through, and stands for both.
    """
    views_used = [batch.weak, batch.strong]
    if not config.uda.weight:
        views_used = [batch.weak if config.pseudo_label_view is View.weak else batch.strong]
    inputs = [batch.labelled, *views_used]
    logits = logits_of(teacher, inputs, batch.draws, "teacher dropout")
    labelled, *unlabelled = torch.split(logits, [view.shape[len(teacher.lead)] for view in inputs], dim=-2)
    return labelled, unlabelled[0], unlabelled[-1]


def _pseudo_label_metrics(targets: Tensor, batch: Batch) -> dict[str, Tensor]:
    """How many pseudo labels are wrong, by the labels that training does not see."""
    right = targets.gather(-1, batch.hidden_labels[..., None]).squeeze(-1).mean(dim=-1)
    return {"pseudo_label_wrong": 1 - right}
