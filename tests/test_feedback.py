"""Forms of feedback: difference, products, cosine, by example; its baseline and its shuffling."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from repro.methods import Baseline, Feedback, FeedbackScope, FeedbackSign, Mpl, PseudoLabel, mpl
from repro.methods.feedback import as_entered, shuffle_in_time
from repro.methods.state import Batch
from repro.optim import cosine
from repro.seeding import Draws, Streams
from repro.train.loop import Trainer
from tests.tiny import (
    CPU,
    feedback_only,
    settings,
    tiny_batch,
    tiny_state,  # fmt: skip
)

EXACT = {"rtol": 0.0, "atol": 1e-10}  # float64 rounding over some hundred sums of numbers near 1 is below 1e-13


def feedback_of(feedback: Feedback) -> Tensor:
    """Feedback of soft labels as logged, positive when the student's labelled loss falls."""
    config = feedback_only(feedback=feedback, pseudo_label=PseudoLabel.soft)
    return mpl.step(tiny_state(config, student_rate=0.3), tiny_batch(4), config)["feedback"]


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
    by_class, at_once = map(feedback_of, (Feedback.exact, Feedback.dot_product))

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
