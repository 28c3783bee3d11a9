"""Forms of feedback: difference, products, cosine, by example; its baseline and its shuffling."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from repro.methods import Baseline, Feedback, FeedbackScope, FeedbackSign, Mpl, PseudoLabel, mpl
from repro.methods.feedback import as_entered, shuffle_in_time, slope_of_log_probabilities
from repro.methods.state import Batch
from repro.optim import cosine
from repro.seeding import Draws, Streams
from repro.train.loop import Trainer
from tests.tiny import (
    CLASSES,
    CPU,
    feedback_only,
    labelled_loss,
    named,
    settings,
    tiny_batch,
    tiny_state,  # fmt: skip
    unrolled,
    weights,
)

EXACT = {"rtol": 0.0, "atol": 1e-10}  # float64 rounding over some hundred sums of numbers near 1 is below 1e-13


def feedback_of(config: Mpl, rate: float, unlabelled: int = 4) -> Tensor:
    """Feedback as logged, positive when the student's labelled loss falls."""
    state, batch = tiny_state(config, student_rate=rate), tiny_batch(unlabelled)
    return mpl.step(state, batch, config)["feedback"]


def test_difference_and_dot_product_agree_to_first_order() -> None:
    """Loss difference minus gradient product shrinks fourfold when the student's rate is halved."""

    def error(rate: float) -> float:
        forms = (Feedback.finite_difference, Feedback.dot_product)
        difference, product = (feedback_of(feedback_only(feedback=form), rate) for form in forms)
        return float(difference - product)

    ratio = error(0.01) / error(0.005)

    assert abs(error(0.005)) > 1e-9  # far above the 1e-16 of rounding, so the ratio is not noise
    assert 4 == pytest.approx(ratio, abs=0.2)  # the next term of the expansion is of order rate: a few per cent


def test_finite_difference_is_the_loss_before_minus_after() -> None:
    """Feedback is the labelled loss of the student before its step minus that after it."""
    state, batch = tiny_state(Mpl()), tiny_batch(4)
    model = state.learners["student"].model
    targets = mpl.pseudo_label_targets(state.learners["teacher"].model(batch.weak).detach(), batch, Mpl())
    expected = labelled_loss(model, named(model), batch) - unrolled(batch, targets.argmax(-1), 0.3)

    actual = feedback_of(feedback_only(feedback=Feedback.finite_difference), 0.3)

    torch.testing.assert_close(actual, expected.detach(), **EXACT)


def by_class(rate: float, unlabelled: int) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Feedback of every class, the pseudo labels, their gradient, and the labelled gradient after the step."""
    state, batch = tiny_state(Mpl(), student_rate=rate), tiny_batch(unlabelled)
    student = state.learners["student"]
    labels = torch.arange(unlabelled) % CLASSES
    gradient = student.gradients(functional.cross_entropy(student.model(batch.weak), labels))
    before = weights(state, "student")
    student.apply(gradient, 0)
    labelled_gradient = student.gradients(functional.cross_entropy(student.model(batch.labelled), batch.labels))
    return (
        -rate * slope_of_log_probabilities(student, before, labelled_gradient, [batch.weak], batch.draws),
        labels,
        gradient,
        labelled_gradient,
    )


def test_slope_gives_feedback_by_class_and_equals_a_loop_of_gradients() -> None:
    """One forward-mode pass gives rate times the gradient product of every class of every example."""
    rate, unlabelled = 0.3, 4
    actual, _, _, labelled_gradient = by_class(rate, unlabelled)
    student, batch = tiny_state(Mpl()).learners["student"], tiny_batch(unlabelled)
    for i in range(unlabelled):
        for k in range(CLASSES):
            single = student.gradients(
                functional.cross_entropy(student.model(batch.weak[i : i + 1]), torch.tensor([k]))
            )
            expected = rate * sum((a * b).sum() for a, b in zip(labelled_gradient, single, strict=True))
            torch.testing.assert_close(actual[i, k], expected, **EXACT)


@pytest.mark.parametrize("batch_norm", ["matched", "released"])
@pytest.mark.parametrize("smoothing", [0.0, 0.15])
def test_feedback_by_example_is_of_the_students_own_loss(batch_norm: str, smoothing: float) -> None:
    """Also with batch norm over labelled images and smoothed labels, the mean over examples is the batch's h."""
    logged = []
    for scope in FeedbackScope:
        method = {
            "feedback_batch_norm": batch_norm,
            "student_label_smoothing": smoothing,
            "feedback_scope": scope.value,
        }
        trainer = Trainer(settings("digits", {"name": "mpl"} | method), 0, CPU)
        logged.append(trainer.method.step(trainer.state, trainer.batch(0), trainer.config.method)["feedback"])

    assert abs(float(logged[0])) > 1e-3
    torch.testing.assert_close(logged[1], logged[0], rtol=1e-4, atol=1e-6)  # float32 rounding of two ways to sum


def test_exact_feedback_is_recorded_as_its_mean_over_the_teachers_labels() -> None:
    """As h is linear in the pseudo labels, that of the classes, weighted, is that of the soft labels at once."""
    forms = (Feedback.exact, Feedback.dot_product)
    by_class, at_once = (feedback_of(feedback_only(feedback=one, pseudo_label=PseudoLabel.soft), 0.3) for one in forms)

    assert abs(float(at_once)) > 1e-4
    torch.testing.assert_close(by_class, at_once, **EXACT)


def test_cosine_is_the_cosine() -> None:
    """The cosine of two lists of tensors is that of the two long vectors, for each stacked pair; 0 without length."""
    generator = torch.Generator().manual_seed(0)
    a, b = (
        [torch.randn((3, *shape), generator=generator, dtype=torch.float64) for shape in [(2, 4), (1, 5)]] for _ in "ab"
    )
    flat_a, flat_b = (torch.cat([t.flatten(1) for t in vector], dim=1) for vector in (a, b))

    actual = cosine(a, b, (3,))

    torch.testing.assert_close(actual, functional.cosine_similarity(flat_a, flat_b), **EXACT)
    torch.testing.assert_close(cosine(a, a, (3,)), torch.ones(3, dtype=torch.float64), **EXACT)
    torch.testing.assert_close(cosine(a, [-t for t in a], (3,)), -torch.ones(3, dtype=torch.float64), **EXACT)
    assert torch.equal(torch.zeros(3, dtype=torch.float64), cosine(a, [0 * t for t in b], (3,)))


def test_cosine_feedback_is_the_cosine_of_the_two_gradients() -> None:
    """Feedback in cosine form is the dot product over the two lengths, and does not scale with the student's rate."""
    state, batch = tiny_state(Mpl(), student_rate=0.3), tiny_batch(4)
    student = state.learners["student"]
    targets = mpl.pseudo_label_targets(state.learners["teacher"].model(batch.weak).detach(), batch, Mpl())
    gradient = student.gradients(functional.cross_entropy(student.model(batch.weak), targets))
    student.apply(gradient, 0)
    labelled_gradient = student.gradients(functional.cross_entropy(student.model(batch.labelled), batch.labels))
    flat = [torch.cat([g.flatten() for g in vector]) for vector in (labelled_gradient, gradient)]

    actual = feedback_of(feedback_only(feedback=Feedback.cosine), 0.3)

    torch.testing.assert_close(actual, flat[0] @ flat[1] / (flat[0].norm() * flat[1].norm()), **EXACT)


@pytest.mark.parametrize(("lead", "per"), [((), ()), ((3,), (4, 2))])
def test_baseline_moves_before_it_is_subtracted(lead: tuple[int, ...], per: tuple[int, ...]) -> None:
    """From average b, h leaves 0.99 of its surprise (h - b), each replica by its own average."""
    start = torch.arange(1.0, 1.0 + max(1, *lead, 1)).reshape(lead)
    memory = {"baseline": start.clone()}
    surprise = 100.0 * (start + 1).reshape((*lead, *[1] * len(per))).expand((*lead, *per))
    h = start.reshape((*lead, *[1] * len(per))) + surprise

    actual = as_entered(h, Mpl(baseline=Baseline.moving_average, baseline_rate=0.01), memory, tiny_batch(1))

    torch.testing.assert_close(actual, 0.99 * surprise)
    torch.testing.assert_close(memory["baseline"], start + (start + 1))


def test_sign_and_weight_come_after_the_baseline() -> None:
    """Reversed at weight 3, a surprise of 1 enters as -3 x 0.99."""
    config = Mpl(baseline=Baseline.moving_average, feedback_sign=FeedbackSign.new_minus_old, feedback_weight=3.0)

    torch.testing.assert_close(
        as_entered(torch.ones(2), config, {"baseline": torch.zeros(2)}, tiny_batch(1)), torch.full((2,), -2.97)
    )


def test_shuffled_feedback_comes_from_the_last_steps() -> None:
    """Each replica gets one of its own last `window` values, all of them in turn, and not in step with the others."""
    streams, window, memory = Streams([0, 1]), 4, {"feedback_history": torch.zeros(2, 4)}
    empty = torch.zeros(2, 0)
    lags = []
    for step in range(300):
        h = torch.tensor([float(step), 1000.0 + step])
        batch = Batch(empty, empty, empty, empty, empty, Draws(streams, step))
        earlier = shuffle_in_time(h, batch, step, memory)
        lags += [(h - earlier).tolist()] if step else []

    assert all(1 <= lag <= min(step, window) for step, pair in enumerate(lags, start=1) for lag in pair)
    assert {1.0, 2.0, 3.0, 4.0} == {first for first, _ in lags} == {second for _, second in lags}
    assert any(first != second for first, second in lags)
