"""Meta Pseudo Labels' teacher: its feedback is the gradient of the student's labelled loss."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call
from torch.nn import functional

from repro.methods import Feedback, FeedbackScope, FeedbackSign, Mpl, PseudoLabel, mpl
from repro.methods.feedback import held_scale
from tests.tiny import CLASSES, feedback_only, named, teacher_gradient, tiny_batch, tiny_state, uniform_for, unrolled

EXACT = {"rtol": 0.0, "atol": 1e-10}  # float64 rounding over some hundred sums of numbers near 1 is below 1e-13


@pytest.mark.parametrize("sign", list(FeedbackSign))
def test_hard_labels_average_to_the_gradient_of_the_expected_loss(sign: FeedbackSign) -> None:
    """Averaged over labels, the feedback gradient is that of the student's expected labelled loss after its step."""
    config = feedback_only(feedback=Feedback.finite_difference, feedback_sign=sign)
    batch, rate = tiny_batch(1), 0.7
    teacher = tiny_state(config).learners["teacher"].model
    parameters = named(teacher)
    probabilities = torch.softmax(functional_call(teacher, parameters, (batch.weak,)), dim=-1)[0]
    after = [unrolled(batch, torch.tensor([k]), rate).detach() for k in range(CLASSES)]
    expected = torch.autograd.grad(probabilities @ torch.stack(after), list(parameters.values()))

    averaged = [torch.zeros_like(e) for e in expected]
    for label in range(CLASSES):
        state = tiny_state(config, student_rate=rate)
        gradient = teacher_gradient(state, tiny_batch(1, uniform_for(state, batch, label)), config)
        averaged = [a + probabilities[label].detach() * g for a, g in zip(averaged, gradient, strict=True)]

    direction = 1 if sign is FeedbackSign.old_minus_new else -1
    assert max(e.abs().max() for e in expected) > 1e-3
    for e, a in zip(expected, averaged, strict=True):
        torch.testing.assert_close(direction * a, e, **EXACT)


def test_exact_feedback_is_the_gradient_through_the_unrolled_step() -> None:
    """With soft labels, exact feedback is the teacher's gradient of the student's labelled loss after its step."""
    config = feedback_only(feedback=Feedback.exact, pseudo_label=PseudoLabel.soft)
    batch, rate = tiny_batch(3), 0.7
    teacher = tiny_state(config).learners["teacher"].model
    parameters = named(teacher)
    soft = torch.softmax(functional_call(teacher, parameters, (batch.weak,)), dim=-1)
    expected = torch.autograd.grad(unrolled(batch, soft, rate), list(parameters.values()))

    actual = teacher_gradient(tiny_state(config, student_rate=rate), batch, config)

    assert max(e.abs().max() for e in expected) > 1e-3
    for e, a in zip(expected, actual, strict=True):
        torch.testing.assert_close(a, e, **EXACT)


FORMS = [(Feedback.dot_product, FeedbackScope.batch), (Feedback.dot_product, FeedbackScope.example),
         (Feedback.cosine, FeedbackScope.batch), (Feedback.finite_difference, FeedbackScope.batch)]  # fmt: skip


@pytest.mark.parametrize(("feedback", "scope"), FORMS)
@pytest.mark.parametrize("label", list(PseudoLabel))
def test_released_soft_form_has_no_gradient(feedback: Feedback, scope: FeedbackScope, label: PseudoLabel) -> None:
    """With soft labels a constant h cannot move the teacher, whether one or one an example; with hard labels it can."""
    config = feedback_only(feedback=feedback, feedback_scope=scope, pseudo_label=label)
    largest = max(float(g.abs().max()) for g in teacher_gradient(tiny_state(config), tiny_batch(4), config))

    assert largest < 1e-12 if label is PseudoLabel.soft else largest > 1e-4


@pytest.mark.parametrize("sign", list(FeedbackSign))
@pytest.mark.parametrize(("feedback", "scope"), FORMS)
def test_helpful_labels_gain_probability(feedback: Feedback, sign: FeedbackSign, scope: FeedbackScope) -> None:
    """A label that lowered the labelled loss gains teacher probability, any other loses it; reversed, the opposite."""
    config = feedback_only(feedback=feedback, feedback_sign=sign, feedback_scope=scope, feedback_weight=0.01)
    helped = []
    for label in range(CLASSES):
        state = tiny_state(config)
        batch = tiny_batch(1, uniform_for(state, tiny_batch(1), label))
        teacher = state.learners["teacher"].model
        before = torch.softmax(teacher(batch.weak), dim=-1)[0, label]
        metrics = mpl.step(state, batch, config)
        gained = torch.softmax(teacher(batch.weak), dim=-1)[0, label] - before
        helped.append(bool(metrics["feedback"] > 0))
        assert (helped[-1] == (sign is FeedbackSign.old_minus_new)) == bool(gained > 0)

    assert {True, False} == set(helped)


def share_of_feedback(share: float, steps: int, weight: float = 1.0) -> list[tuple[float, list[torch.Tensor]]]:
    """For each step, feedback's gradient over the other terms' in norm, and the feedback gradient that entered."""
    config = Mpl(feedback=Feedback.finite_difference, feedback_share=share, feedback_weight=weight)
    found = []
    state = tiny_state(config, student_rate=0.3)
    for number in range(steps):
        batch = tiny_batch(6, torch.linspace(0.05, 0.95, 6).roll(number))
        learner = state.learners["teacher"]
        loss = functional.cross_entropy(learner.model(batch.labelled), batch.labels)
        other = torch.autograd.grad(loss, learner.parameters)
        total = teacher_gradient(state, batch, config)
        entered = [t - o for t, o in zip(total, other, strict=True)]
        norms = [torch.cat([g.flatten() for g in gradient]).norm() for gradient in (entered, other)]
        found.append((float(norms[0] / norms[1]), entered))
    return found


def test_a_held_share_is_that_of_the_other_terms_gradient() -> None:
    """At a measured step the first ratio is the share itself; twice the share is twice the gradient."""
    one, two = share_of_feedback(0.1, 1)[0], share_of_feedback(0.2, 1)[0]

    assert one[0] == pytest.approx(0.1, rel=1e-9)
    for a, b in zip(one[1], two[1], strict=True):
        torch.testing.assert_close(2 * a, b, **EXACT)


def test_the_held_scale_is_an_average_over_measured_steps() -> None:
    """Norms enter at every 16th step, at a rate of a tenth; a step whose feedback is zero does not count."""
    config = Mpl(feedback=Feedback.finite_difference, feedback_share=0.5)
    state = tiny_state(config)
    teacher, memory = state.learners["teacher"], state.memory
    batch = tiny_batch(4)
    other = functional.cross_entropy(teacher.model(batch.labelled), batch.labels)
    size = lambda loss: torch.cat([g.flatten() for g in teacher.gradients(loss, retain_graph=True)]).norm()  # noqa: E731
    feedback = teacher.model(batch.weak).square().mean()

    def scale(other_factor: float, feedback_factor: float, step: int) -> float:
        return float(held_scale(teacher, other_factor * other, feedback_factor * feedback, config, memory, step))

    ratio = float(size(other) / size(feedback))
    assert scale(1.0, 0.0, 0) == 0
    assert scale(1.0, 1.0, 16) == pytest.approx(0.5 * ratio)
    assert scale(9.0, 7.0, 17) == pytest.approx(0.5 * ratio)
    assert scale(5.0, 0.0, 32) == pytest.approx(0.5 * ratio)
    assert scale(2.0, 1.0, 48) == pytest.approx(0.5 * ratio * 1.1)
    assert scale(1.0, 3.0, 64) == pytest.approx(0.5 * ratio * (1.1 * 0.9 + 0.1) / 1.2)
