"""Planted wrong labels, what becomes of them, and how good h is along training."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from repro.config import Config
from repro.evaluate import feedback
from repro.evaluate.evaluate import calibration_error, label_curves
from repro.evaluate.feedback import FeedbackProbe
from repro.losses import cross_entropy, one_hot, soft_cross_entropy
from repro.methods import mpl
from repro.plan import compose
from repro.seeding import Streams
from repro.settings import ConfigError, Flip, Plant
from repro.train.batches import planted_labels
from repro.train.loop import Trainer

SHORT = ["budget.steps=24", "plant.steps=4", "budget.log_every=4", "budget.snapshots=2", "finetune.steps=0",
         "budget.unlabelled_batch=16", "optim.student.warmup_steps=0", "optim.teacher.warmup_steps=0",
         "model.width=2"]  # fmt: skip


def trained(run: str, steps: int) -> Trainer:
    """A run on digits after some steps."""
    trainer = Trainer(compose(run, SHORT), 3, torch.device("cpu"))
    for _ in range(steps):
        trainer.advance()
    return trainer


def test_labels_are_flipped_as_said() -> None:
    """All; two classes; exactly a share of them, each another class, others for another seed."""
    labels, streams = torch.arange(50) % 10, Streams(1)

    assert (planted_labels(Plant(5, Flip.all), labels, 10, streams) == (labels + 1) % 10).all()
    pair = planted_labels(Plant(5, Flip.pair), torch.tensor([2, 3, 4, 5, 3]), 10, streams)
    assert [2, 5, 4, 3, 5] == pair.tolist()
    many = labels.repeat(90)
    drawn = planted_labels(Plant(5, Flip.random, 0.4), many, 10, streams)
    further = ((drawn - many) % 10).bincount().tolist()
    assert 2700 == further[0]
    assert 1800 == sum(further[1:])
    assert all(140 < count < 260 for count in further[1:])  # 200 of each other class, four standard deviations
    drawn = planted_labels(Plant(5, Flip.random, 0.4), labels, 10, streams)
    assert not torch.equal(drawn, planted_labels(Plant(5, Flip.random, 0.4), labels, 10, Streams(2)))
    assert torch.equal(labels, planted_labels(Plant(0, Flip.all), labels, 10, streams))
    with pytest.raises(ConfigError, match="exchanges classes 3 and 5, and there are 2 classes; use all or random"):
        planted_labels(Plant(5, Flip.pair), labels % 2, 2, streams)


def test_labels_are_wrong_in_the_first_steps_alone() -> None:
    """Step 3 is the last with wrong ones; the hidden labels, by which pseudo labels are counted, stay true."""
    trainer = trained("digits_planted_random_mpl", 0)
    order = trainer.batches.order(0)[0]
    true = trainer.data.labels[order]
    wrong = [int((trainer.batch(step).labels != trainer.data.labels[trainer.batches.order(step)[0]]).sum())
             for step in (0, 3, 4, 5)]  # fmt: skip

    assert len(true) == 50
    assert [20, 20, 0, 0] == wrong
    assert (trainer.batch(0).hidden_labels >= 0).all()


def test_all_arms_share_the_planted_teacher_and_then_part() -> None:
    """Bit for bit while wrong labels are planted, whatever feeds back later; nothing is fed back till then."""
    arms = ("mpl_no_feedback", "mpl_held", "exact_alone", "consistency_alone", "mixup_no_feedback")
    planted = [trained(f"digits_planted_random_{arm}", 4) for arm in arms]
    teachers = [torch.cat([p.flatten() for p in one.state.learners["teacher"].parameters]) for one in planted]

    assert all(torch.equal(teachers[0], other) for other in teachers[1:])
    assert all("feedback" not in one.rows[0] for one in planted)
    after = [trained(f"digits_planted_random_{arm}", 18) for arm in arms]  # a held share is first measured at step 16
    teachers = [torch.cat([p.flatten() for p in one.state.learners["teacher"].parameters]) for one in after]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(teachers, 2))


@pytest.mark.parametrize(("run", "changes", "says"), [
    ("digits_uda", ["plant.steps=5"], "plant.steps = 5: is for method.name = mpl, not uda; set it to 0"),
    ("digits_mpl", ["plant.steps=600"], "plant.steps = 600: leaves none of budget.steps = 600; set fewer"),
    ("digits_uda", ["budget.probe_feedback=true"], "budget.probe_feedback = True: is for method.name = mpl"),
])  # fmt: skip
def test_what_cannot_be_planted_or_probed_is_one_sentence(run: str, changes: list[str], says: str) -> None:
    """With key, value and remedy."""
    with pytest.raises(ConfigError, match=says):
        compose(run, changes)


def test_what_became_of_planted_labels_by_hand() -> None:
    """Two seeds, five examples, wrong at the end of planting: three of the first seed, none of the second."""
    truth = np.array([[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]])
    pseudo = [truth + 1, [[1, 2, 3, 3, 4], truth[1]], [[0, 1, 9, 3, 9], [0, 0, 2, 3, 4]]]
    curves = label_curves(np.stack(pseudo, axis=1), truth, [50, 100, 150], 100)

    right, wrong = curves["put_right"], curves["made_wrong"]
    assert np.isnan(right[:, 0]).all()
    assert np.isnan(wrong[:, 0]).all()
    np.testing.assert_allclose([0, 2 / 3], right[0, 1:])
    np.testing.assert_allclose([0, 1 / 2], wrong[0, 1:])
    assert np.isnan(right[1, 1:]).all()
    np.testing.assert_allclose([0, 1 / 5], wrong[1, 1:])
    assert {"pseudo_label_wrong", "wrong_stays"} == label_curves(truth[:, None], truth, [0], 0).keys()


def test_calibration_error_by_hand() -> None:
    """Confidences 0.9, 0.92 (one right of two) and 0.6 (right): (|1 - 1.82| + |1 - 0.6|) / 3 of the first seed."""
    p = np.array([[[0.9, 0.1], [0.08, 0.92], [0.6, 0.4]], [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    labels = np.array([[0, 0, 0], [0, 1, 0]])

    np.testing.assert_allclose([(0.82 + 0.4) / 3, 0.0], calibration_error(p, labels), atol=1e-12)
    # 0.6 is the edge of two bins and counts with 0.55 (wrong) below: |1 - 1.15|; 0.65 (right) is alone: 0.35.
    edge = np.array([[[0.6, 0.4], [0.45, 0.55], [0.35, 0.65]]])
    np.testing.assert_allclose([(0.15 + 0.35) / 3], calibration_error(edge, np.array([[0, 0, 1]])), atol=1e-12)


@pytest.fixture
def moons() -> tuple[Config, Trainer]:
    """Two stacked seeds of two moons, some steps on; five pseudo labels a batch, so that all 32 can be listed."""
    config = compose("moons_dose_mpl", ["budget.unlabelled_batch=5", "budget.steps=200", "data.points=100"])
    trainer = Trainer(config, [0, 1], torch.device("cpu"))
    for _ in range(30):
        trainer.advance()
    return config, trainer


def probe_of(config: Config, trainer: Trainer) -> tuple[FeedbackProbe, dict[str, dict[str, Tensor]]]:
    """A probe, and the weights of now."""
    weights = {role: learner.model.state_dict() for role, learner in trainer.state.learners.items()}
    return FeedbackProbe(config, [0, 1]), weights


def test_signal_to_noise_is_that_of_all_labels(moons: tuple[Config, Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the sum over all 2^5 draws of a batch, each with its probability; the baseline's too.

    An oracle with the gradient of the labelled loss has the expected direction; one draw's h slope has a mean cosine.
    """
    config, trainer = moons
    probe, weights = probe_of(config, trainer)
    monkeypatch.setattr(feedback, "BATCHES", 1)
    monkeypatch.setattr(feedback, "DRAWS", 3000)
    monkeypatch.setattr(probe, "_oracle", lambda student, step: student.gradients(
        feedback.labelled_loss(student, probe._batches.at(step), with_gradient=True)))  # fmt: skip
    found = probe.at(40, weights)

    batch, teacher, student = probe._batches.at(40), probe._state.learners["teacher"], probe._state.learners["student"]
    _, weak, strong = mpl.teacher_logits(teacher, batch, config.method)
    logits = strong if config.method.pseudo_label_view == "strong" else weak
    p = torch.softmax(logits.detach().double(), dim=-1)
    own = student.gradients(feedback.labelled_loss(student, batch, with_gradient=True))
    x = mpl.student_inputs(batch, config.method)[0]
    expected: dict[str, list[Tensor]] = {"": [], "_baseline": []}
    for labels in itertools.product((0, 1), repeat=5):
        targets = one_hot(torch.tensor([labels, labels]), 2)
        chance = (p * targets).sum(dim=-1).prod(dim=-1)
        loss = soft_cross_entropy(student.model(x, None), targets).mean(dim=-1)
        slope = student.gradients(loss)
        h = inner(own, slope)
        g = teacher.gradients(soft_cross_entropy(logits, targets).mean(dim=-1), retain_graph=True)
        expected[""].append(torch.cat([chance[:, None], h[:, None], flat(g)], dim=1).double())
    rows = torch.stack(expected[""], dim=1)  # [2, 32, 2 + weights]
    chance, h, g = rows[..., 0], rows[..., 1], rows[..., 2:]
    mean_h = (chance * h).sum(dim=1, keepdim=True)
    for name, values in {"": h, "_baseline": h - mean_h}.items():
        drawn = values[..., None] * g
        mean = (chance[..., None] * drawn).sum(dim=1)
        square = (chance * (drawn**2).sum(dim=-1)).sum(dim=1)
        signal = (mean**2).sum(dim=-1)
        torch.testing.assert_close(
            (signal / (square - signal)).sqrt().float(), found[f"signal_to_noise{name}"], rtol=0.1, atol=1e-3
        )
    one, mean = h[..., None] * g, (chance[..., None] * h[..., None] * g).sum(dim=1)
    cosine = (one * mean[:, None]).sum(dim=-1) / (one.norm(dim=-1) * mean.norm(dim=-1)[:, None])
    torch.testing.assert_close((chance * cosine).sum(dim=1).float(), found["oracle_cosine_drawn"], rtol=0, atol=0.05)


def test_without_noise_there_is_no_ratio() -> None:
    """A teacher so sure that all draws are the same label: what is left of the variance is rounding."""
    size, square = torch.tensor([2.0, 2.0, 2.0]), torch.tensor([8.0, 4.0 + 1e-6, 4.0 - 1e-6])

    torch.testing.assert_close(
        torch.tensor([1.0, torch.nan, torch.nan]), feedback._ratio(size, square), equal_nan=True, rtol=0, atol=0
    )


def flat(gradient: Sequence[Tensor]) -> Tensor:
    """[2, n]."""
    return torch.cat([one.flatten(1) for one in gradient], dim=1)


def inner(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """[2]."""
    return (flat(a) * flat(b)).sum(dim=1)


def test_an_oracle_without_more_points_alike(moons: tuple[Config, Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cosine is 1 where its labels are the labelled ones, -1 where its gradient is the reverse."""
    config, trainer = moons
    probe, weights = probe_of(config, trainer)
    monkeypatch.setattr(feedback, "BATCHES", 1)
    for sign in (1.0, -1.0):

        def oracle(student: mpl.Learner, step: int, sign: float = sign) -> list[Tensor]:
            own = student.gradients(feedback.labelled_loss(student, probe._batches.at(step), with_gradient=True))
            return [sign * part for part in own]

        monkeypatch.setattr(probe, "_oracle", oracle)
        torch.testing.assert_close(torch.full((2,), sign), probe.at(7, weights)["oracle_cosine"], rtol=0, atol=1e-5)


def test_the_oracle_learns_the_true_labels_of_unlabelled_points(moons: tuple[Config, Trainer]) -> None:
    """Of a hundred points it takes all, each with its own label: the gradient of the student's loss on them."""
    config, trainer = moons
    probe, weights = probe_of(config, trainer)
    probe.at(7, weights)
    student, data = probe._state.learners["student"], probe._batches.data
    assert data.unlabelled.shape[1] <= feedback.ORACLE

    loss = cross_entropy(student.model(data.unlabelled, None), data.hidden_labels).mean(dim=-1)

    for one, other in zip(student.gradients(loss), probe._oracle(student, 7), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_recorded_run_has_the_curves(tmp_path: Path) -> None:
    """From training to the arrays of a record: one value for each seed and snapshot."""
    from repro.evaluate.evaluate import evaluate
    from repro.train.checkpoint import load_result
    from repro.train.job import Job, Listener, train_job

    config = compose("digits_planted_random_mpl", [*SHORT, "budget.probe_feedback=true"])
    job = Job("digits_planted_random_mpl", [3], config, tmp_path, {})
    assert train_job(job, Listener(lambda _: None, lambda _: None, lambda: False))
    result = load_result(job.folder)
    arrays = evaluate("digits_planted_random_mpl", result).arrays

    assert [0, 4, 12, 24] == arrays["curve.step"].tolist()
    for name in ("put_right", "made_wrong", "signal_to_noise", "oracle_cosine", "calibration_error.teacher_average"):
        assert (1, 4) == arrays[f"curve.{name}"].shape, name
    assert [True, False, False, False] == np.isnan(arrays["curve.put_right"][0]).tolist()
    assert 0 == arrays["curve.put_right"][0, 1]
    assert np.isfinite(arrays["curve.signal_to_noise"]).all()
