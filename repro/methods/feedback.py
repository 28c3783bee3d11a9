"""h: how much learning the pseudo labels lowered the student's labelled loss. Paper, Eqs. 6 to 12 and Appendix A.

theta, theta' student before and after its step on pseudo labels, eta its learning rate, L_l its labelled loss.
All forms are positive when the step helped and agree to first order in eta, but for the cosine's scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from repro.config.schema import Baseline, Feedback, FeedbackScope, FeedbackSign, Mpl
from repro.losses import cross_entropy, log_probabilities
from repro.methods.state import Batch, dropout_noise, logits_of
from repro.models.layers import frozen_statistics
from repro.optim.learner import Learner
from repro.optim.vectors import cosine, inner_product


def labelled_loss(student: Learner, batch: Batch, *, with_gradient: bool = False) -> Tensor:
    """The student's loss on the labelled batch alone, [*lead]: no smoothing, one dropout mask for the whole step."""
    with frozen_statistics(student.model), torch.set_grad_enabled(with_gradient):
        logits = logits_of(student, batch.labelled, batch.draws, "student labelled dropout")
        return cross_entropy(logits, batch.labels).mean(dim=-1)


def gradient_feedback(
    student: Learner,
    before: Sequence[Tensor],
    gradient: Sequence[Tensor],
    x_u: Tensor,
    targets: Tensor,
    batch: Batch,
    config: Mpl,
    step: int,
) -> Tensor:
    """Feedback h from the labelled gradient at theta' (the student now) and that of the pseudo labels at theta.

    Returns:
        [*lead]: eta <grad L_l(theta'), grad CE(y^, S(x_u; theta))> (Eq. 12), or the cosine of the two (Appendix C.3).
        [*lead, U] for each pseudo label, [*lead, U, K] for each class of each example when exact.
    """
    labelled_gradient = student.gradients(labelled_loss(student, batch, with_gradient=True))
    rate = student.learning_rate(step)
    if config.feedback is Feedback.cosine:
        return cosine(labelled_gradient, gradient, student.lead)
    if config.feedback is Feedback.dot_product and config.feedback_scope is FeedbackScope.batch:
        return rate * inner_product(labelled_gradient, gradient, student.lead)
    noise = dropout_noise(student, x_u, batch.draws, "student dropout")
    h = feedback_by_class(student, before, labelled_gradient, x_u, noise, rate)
    return h if config.feedback is Feedback.exact else (h * targets).sum(dim=-1)


def feedback_by_class(
    student: Learner,
    before: Sequence[Tensor],
    labelled_gradient: Sequence[Tensor],
    x_u: Tensor,
    noise: Tensor | None,
    rate: float,
) -> Tensor:
    """Feedback of every class of every unlabelled example, had it been its pseudo label: h [*lead, U, K].

    h[i, k] = eta <grad L_l(theta'), grad CE(k, S(x_i; theta))>: minus eta times the derivative of log S(x_i)_k along
    the labelled gradient, so one forward-mode pass yields all of them. The mean over i of h[i, pseudo label of i] is
    the paper's scalar h.
    """
    names = [name for name, _ in student.model.named_parameters()]

    def log_probabilities_at(parameters: dict[str, Tensor]) -> Tensor:
        return log_probabilities(functional_call(student.model, parameters, (x_u, noise)))

    with frozen_statistics(student.model):
        slope: Tensor = torch.func.jvp(
            log_probabilities_at,
            (dict(zip(names, before, strict=True)),),
            (dict(zip(names, labelled_gradient, strict=True)),),
        )[1]
    return -rate * slope.detach()


def mean_feedback(h: Tensor, targets: Tensor, lead: int) -> Tensor:
    """The one number [*lead] that is recorded: the mean of h over the pseudo labels, weighted by class where exact."""
    if h.dim() == lead + 2:
        h = (h * targets).sum(dim=-1)
    return h.mean(dim=-1) if h.dim() == lead + 1 else h


def shuffle_in_time(h: Tensor, batch: Batch, step: int, memory: dict[str, Tensor]) -> Tensor:
    """Replaces h [*lead] by that of one of the last `window` steps, this one included, chosen at random."""
    history = memory["feedback_history"]  # [*lead, window]
    window = history.shape[-1]
    history[..., step % window] = h
    chosen = batch.draws.integers("feedback order", min(step + 1, window), (1,))
    return history.gather(-1, chosen).squeeze(-1)


def as_entered(h: Tensor, config: Mpl, memory: dict[str, Tensor]) -> Tensor:
    """Feedback as it enters the teacher's loss: less its baseline, with its sign and weight; the shape stays.

    The baseline is the moving average of h. It is moved first, as in the released code, so that 0.99 of the surprise
    is left.
    """
    average = memory["baseline"]
    if config.baseline is Baseline.moving_average:
        is_scalar = h.dim() == average.dim()
        average.lerp_(h if is_scalar else h.flatten(average.dim()).mean(dim=-1), config.baseline_rate)
        h = h - average.reshape(*average.shape, *[1] * (h.dim() - average.dim()))
    sign = 1.0 if config.feedback_sign is FeedbackSign.old_minus_new else -1.0
    return sign * config.feedback_weight * h
