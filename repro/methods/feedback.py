"""h: how much learning the pseudo labels lowered the student's labelled loss. Paper, Eqs. 6 to 12 and Appendix A.

theta and theta' are the student before and after its step on pseudo labels, eta its learning rate, L_l its labelled
loss. All forms are positive when the step helped. They agree to first order in eta, except for the cosine's scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from repro.losses import cross_entropy, log_probabilities
from repro.methods import Baseline, BatchNormBatch, Feedback, FeedbackScope, FeedbackSign, Mpl
from repro.methods.state import Batch, State, dropout_noise, logits_of
from repro.models.layers import frozen_statistics
from repro.optim import Learner, cosine, inner_product, norm
from repro.seeding import Draws, Step

NORM_RATE = 0.1
"""The rate of the moving averages of the norms that `feedback_share` compares."""


def initial_memory(config: Mpl, lead: tuple[int, ...], device: torch.device) -> dict[str, Tensor]:
    """The memory of past feedback: its baseline [*lead] and, for shuffling, the last values of h."""
    memory = {"baseline": torch.zeros(lead, device=device)}
    if config.feedback is Feedback.shuffled:
        memory["feedback_history"] = torch.zeros(*lead, config.shuffle_window, device=device)
    if config.feedback_share:
        memory |= {key: torch.zeros(lead, device=device) for key in ("other_norm", "feedback_norm")}
    return memory


def labelled_loss(student: Learner, batch: Batch, *, with_gradient: bool = False) -> Tensor:
    """The student's loss on the labelled batch alone, [*lead]: no smoothing, one dropout mask for the whole step."""
    with frozen_statistics(student.model), torch.set_grad_enabled(with_gradient):
        logits = logits_of(student, [batch.labelled], batch.draws, "student labelled dropout")
        return cross_entropy(logits, batch.labels).mean(dim=-1)


@dataclass(frozen=True)
class Before:
    """What h needs of the student at theta, before its step."""

    labelled_loss: Tensor  # L_l(theta) of the labelled batch alone, [*lead]; NaN where nothing asks for it
    joint_labelled_loss: Tensor | None  # L_l(theta) in the pass of the pseudo labels (released code), [*lead]
    weights: list[Tensor]  # theta, where h is of each example


def by_difference(config: Mpl) -> bool:
    """Whether h is a difference of two measured losses."""
    return config.feedback in {Feedback.finite_difference, Feedback.shuffled}


def before_the_step(student: Learner, logits: Tensor, batch: Batch, config: Mpl) -> Before:
    """Measures the student at theta as h needs it.

    `logits` are those of the student's pass, [*lead, N, K]; those of the labelled examples, if any, come last.
    """
    measured = by_difference(config) or batch.probe
    alone = labelled_loss(student, batch) if measured else torch.full(student.lead, torch.nan, device=logits.device)
    joint = None
    if config.feedback_batch_norm is BatchNormBatch.released:
        joint = cross_entropy(logits[..., -batch.labels.shape[-1] :, :], batch.labels).mean(dim=-1).detach()
    return Before(alone, joint, [p.detach().clone() for p in student.parameters] if config.by_example else [])


def feedback(
    student: Learner,
    before: Before,
    gradient: Sequence[Tensor],
    inputs: Sequence[Tensor],
    targets: Tensor,
    batch: Batch,
    config: Mpl,
    state: State,
) -> tuple[Tensor | None, dict[str, Tensor]]:
    """The feedback h of the step that the student has just taken, to theta', and its metrics.

    `gradient` is of the student's loss on pseudo labels at theta; `inputs` are what the student saw in that loss, the
    unlabelled examples [*lead, U, *E] first; `targets` the pseudo labels as probabilities, [*lead, U, K].

    Returns:
        h [*lead]; [*lead, U] for each pseudo label, [*lead, U, K] for each class of each example when exact; None
        where there is no feedback.
    """
    measured = by_difference(config) or batch.probe
    metrics = {"student_labelled_loss": before.labelled_loss} if measured else {}
    if config.feedback is Feedback.none:
        return None, metrics
    if by_difference(config):
        old = before.labelled_loss if before.joint_labelled_loss is None else before.joint_labelled_loss
        h = old - labelled_loss(student, batch)
        h = batch.mean_over_processes(h)  # one h for the whole batch, over all processes
        metrics["noise_floor"] = old - before.labelled_loss  # h if the student had not moved
    else:
        h = gradient_feedback(student, before.weights, gradient, inputs, targets, batch, config, state.step)
    metrics["feedback"] = mean_feedback(h, targets, batch, len(student.lead))
    if config.feedback is Feedback.shuffled:
        h = shuffle_in_time(h, batch, state.step, state.memory)
    return h, metrics


def gradient_feedback(
    student: Learner,
    weights: Sequence[Tensor],
    gradient: Sequence[Tensor],
    inputs: Sequence[Tensor],
    targets: Tensor,
    batch: Batch,
    config: Mpl,
    step: Step,
) -> Tensor:
    """Feedback h from the labelled gradient at theta' (the student now) and that of the pseudo labels at theta.

    `weights` are theta, where h is of each example; the other arguments are as of `feedback`. Gives [*lead]:
    eta <grad L_l(theta'), grad CE(y^, S(x_u; theta))> (Eq. 12), or the cosine of the two (Appendix C.3); [*lead, U] for
    each pseudo label, [*lead, U, K] for each class of each example when exact.
    """
    labelled_gradient = student.gradients(labelled_loss(student, batch, with_gradient=True))
    if config.feedback is Feedback.cosine:
        return cosine(labelled_gradient, gradient, student.lead)
    rate = student.learning_rate(step)
    if config.feedback is Feedback.dot_product and config.feedback_scope is FeedbackScope.batch:
        return rate * inner_product(labelled_gradient, gradient, student.lead)
    slope = slope_of_log_probabilities(student, weights, labelled_gradient, inputs, batch.draws)
    slope = slope[..., : targets.shape[-2], :]
    smoothing = config.student_label_smoothing
    if smoothing:
        slope = (1 - smoothing) * slope + smoothing * slope.mean(dim=-1, keepdim=True)
    h = -rate * slope
    return h if config.feedback is Feedback.exact else (h * targets).sum(dim=-1)


def slope_of_log_probabilities(
    student: Learner, weights: Sequence[Tensor], direction: Sequence[Tensor], inputs: Sequence[Tensor], draws: Draws
) -> Tensor:
    """Derivative of log S(x_i; theta)_k along a direction of theta, the weights, [*lead, N, K], by forward mode.

    Along the labelled gradient, -eta times the derivative is h[i, k] = eta <grad L_l(theta'), grad CE(k, S(x_i;
    theta))>: h if class k were the pseudo label of example i. The mean over the pseudo labels is the paper's h.
    """
    names = [name for name, parameter in student.model.named_parameters() if parameter.requires_grad]
    noise, x = dropout_noise(student, inputs, draws, "student dropout"), torch.cat(list(inputs), dim=len(student.lead))

    def log_probabilities_at(parameters: dict[str, Tensor]) -> Tensor:
        return log_probabilities(functional_call(student.model, parameters, (x, noise)))

    # Only this form of PyTorch's attention has a forward-mode derivative.
    with frozen_statistics(student.model), sdpa_kernel(SDPBackend.MATH):
        slope: Tensor = torch.func.jvp(
            log_probabilities_at,
            (dict(zip(names, weights, strict=True)),),
            (dict(zip(names, direction, strict=True)),),
        )[1]
    return slope.detach()


def mean_feedback(h: Tensor, targets: Tensor, batch: Batch, lead: int) -> Tensor:
    """The number [*lead] that is recorded: the mean of h over the pseudo labels, weighted by class where exact."""
    if h.dim() == lead:
        return h
    if h.dim() == lead + 2:
        h = (h * targets).sum(dim=-1)
    return batch.mean_over_processes(h.mean(dim=-1))


def shuffle_in_time(h: Tensor, batch: Batch, step: Step, memory: dict[str, Tensor]) -> Tensor:
    """Replaces h [*lead] by that of a random step among the last `window`; by 0 at the first step."""
    history = memory["feedback_history"]  # [*lead, window]
    window = history.shape[-1]
    filled = step.clamp(1, window) if isinstance(step, Tensor) else min(max(step, 1), window)
    chosen = batch.draws.integers("feedback order", filled, (1,))
    earlier = history.gather(-1, chosen).squeeze(-1)
    here = torch.arange(window, device=h.device) == step % window  # a mask, since a recorded step is on the device
    history.copy_(torch.where(here, h[..., None], history))
    return earlier


def as_entered(h: Tensor, config: Mpl, memory: dict[str, Tensor], batch: Batch) -> Tensor:
    """Feedback as it enters the teacher's loss: less its baseline, with its sign and weight; the shape stays.

    The baseline is the moving average of h. It is updated first, as in the released code, so that 0.99 of the
    difference from the old average is left.
    """
    average = memory["baseline"]
    if config.baseline is Baseline.moving_average:
        is_scalar = h.dim() == average.dim()
        mean = h if is_scalar else batch.mean_over_processes(h.flatten(average.dim()).mean(dim=-1))
        average.lerp_(mean, config.baseline_rate)
        h = h - average.reshape((*average.shape, *[1] * (h.dim() - average.dim())))
    sign = 1.0 if config.feedback_sign is FeedbackSign.old_minus_new else -1.0
    return sign * config.feedback_weight * h


def held_scale(
    teacher: Learner, other_loss: Tensor, feedback_loss: Tensor, config: Mpl, memory: dict[str, Tensor], step: Step
) -> Tensor:
    """The factor [*lead] that makes the norm of feedback's gradient `config.feedback_share` of that of the other terms.

    h as a difference of losses shrinks with the student's learning rate, so a fixed weight is no fixed dose. Both norms
    are measured every 16 steps, over the teacher's weights, which stay, and averaged in place in `memory` over some ten
    measurements, so that values of h keep their relative sizes. A step with h = 0, or a recorded one, is not measured.
    """
    other, feedback = memory["other_norm"], memory["feedback_norm"]
    if isinstance(step, int) and config.measures(step):
        norms = [norm(teacher.gradients(loss, retain_graph=True), teacher.lead) for loss in (other_loss, feedback_loss)]
        measured, first = norms[1] > 0, feedback == 0
        for average, value in zip((other, feedback), norms, strict=True):
            moved = torch.where(first, value, average.lerp(value.to(average.dtype), NORM_RATE))
            average.copy_(torch.where(measured, moved, average))
    return torch.where(feedback > 0, config.feedback_share * other / feedback.clamp_min(1e-30), 0.0)
