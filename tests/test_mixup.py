"""Mixup: the weights' distribution, and what is mixed with what. Exact values in float64."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

from repro.augment.views import Mix, draw_mix, symmetric_beta
from repro.methods import Feedback, Mpl, Supervised, mpl, supervised
from repro.methods.state import Batch
from repro.seeding import Draws, Streams
from repro.settings import Optim, Optimiser, View
from tests.tiny import LABELLED, TinyNet, all_weights, settings, tiny_batch, tiny_state, trained, weights

MANY = 200_000


def seeded(step: int = 3) -> Batch:
    """The tiny batch with draws of its own."""
    return Batch(**vars(tiny_batch(4)) | {"draws": Draws(Streams(0), step)})


def mix_of(batch: Batch, a: float) -> Mix:
    """What the labelled examples of the batch are mixed by."""
    return draw_mix(batch.draws, "mixup", a, LABELLED)


@pytest.mark.parametrize("a", [0.2, 0.75, 1.0, 2.5, 40.0])
def test_weights_follow_their_beta_distribution(a: float) -> None:
    """Kolmogorov-Smirnov against scipy's Beta(a, a) on 200,000 draws, and its first two moments."""
    streams = Streams(0)
    drawn = symmetric_beta(streams.uniform("u", 0, (MANY,)), streams.uniform("v", 0, (MANY,)), a).numpy()
    variance = 1 / (4 * (2 * a + 1))

    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert stats.kstest(drawn, stats.beta(a, a).cdf).pvalue > 0.001
    assert abs(drawn.mean() - 0.5) < 5 * (variance / MANY) ** 0.5  # five standard errors
    assert drawn.var() == pytest.approx(variance, rel=0.02)


def test_the_ends_of_the_uniform_numbers_give_weights() -> None:
    """The smallest and largest uniform numbers, and the smallest and largest a, give no NaN."""
    ends = torch.tensor([0.0, 0.25, 0.5, 0.75, 1 - 2**-24])
    for a in (0.01, 1.0, 100.0):
        weight = symmetric_beta(ends[:, None].expand(5, 5), ends[None].expand(5, 5), a)
        assert bool(((weight >= 0) & (weight <= 1)).all())


def test_an_example_may_have_the_smaller_share() -> None:
    """As in the authors' code: of 40 steps some give it less than half, some more."""
    drawn = [float(mix_of(seeded(step), 1.0).weight) for step in range(40)]

    assert min(drawn) < 0.3
    assert max(drawn) > 0.7


def test_a_step_with_mixup_is_the_hand_written_one() -> None:
    """The step is down the gradient of w CE(y_i, f(mixed)) + (1 - w) CE(y_p(i), f(mixed)), p a permutation."""
    batch, config = seeded(), Supervised(mixup=0.5, label_smoothing=0.1)
    mix, model = mix_of(batch, 0.5), TinyNet(1)
    w, labels = float(mix.weight), (batch.labels, batch.labels[mix.partner])
    logits = model(w * batch.labelled + (1 - w) * batch.labelled[mix.partner])
    own, other = (functional.cross_entropy(logits, one, label_smoothing=0.1) for one in labels)
    expected = torch.autograd.grad(w * own + (1 - w) * other, list(model.parameters()))
    state = supervised.init(lambda _: TinyNet(1), config, Optim(teacher=Optimiser(learning_rate=1.0)), 100, ())
    before = weights(state, "teacher")

    supervised.step(state, batch, config)

    assert list(range(LABELLED)) == mix.partner.sort().values.tolist()
    assert 0.01 < w < 0.99
    for b, a, e in zip(before, weights(state, "teacher"), expected, strict=True):
        torch.testing.assert_close(b - a, e, rtol=0, atol=1e-13)  # float64 rounding


def moved_student(config: Mpl, batch: Batch) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Metrics of one step of MPL, and the student after it."""
    state = tiny_state(config)
    metrics = mpl.step(state, batch, config)
    return metrics, weights(state, "student")


@pytest.mark.parametrize("feedback", [Feedback.dot_product, Feedback.cosine, Feedback.finite_difference])
def test_feedback_is_measured_without_mixup(feedback: Feedback) -> None:
    """The teacher's Mixup and its strong labelled view change neither h nor the student's step."""
    batch = Batch(**vars(seeded()) | {"strong_labelled": torch.full((LABELLED, 4), 3.0, dtype=torch.float64)})
    plain, student = moved_student(Mpl(feedback=feedback), seeded())
    for changes in ({"teacher_mixup": 1.0}, {"teacher_labelled_view": View.strong}):
        metrics, other = moved_student(Mpl(feedback=feedback, **changes), batch)
        assert torch.equal(plain["feedback"], metrics["feedback"])
        assert all(torch.equal(a, b) for a, b in zip(student, other, strict=True))
        assert not torch.equal(plain["teacher_labelled_loss"], metrics["teacher_labelled_loss"])


def test_without_feedback_a_mixup_teacher_learns_as_the_supervised_network() -> None:
    """Up to rounding: MPL's teacher passes unlabelled examples too, so that a matrix product has more rows."""
    plain = all_weights(trained(settings("two_moons", {"name": "supervised"}), steps=10))
    for changes in ({"mixup": 0.8}, {"labelled_view": "strong"}):
        teacher = {f"teacher_{key}": value for key, value in changes.items()}
        alone = all_weights(trained(settings("two_moons", {"name": "supervised"} | changes), steps=10))
        taught = all_weights(trained(settings("two_moons", {"name": "mpl", "feedback": "none"} | teacher), steps=10))
        for key, value in alone.items():
            torch.testing.assert_close(taught[key], value, rtol=1e-5, atol=1e-6)
        assert max(float((plain[key] - value).abs().max()) for key, value in alone.items()) > 1e-4
