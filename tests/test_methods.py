"""Twenty steps of every method against recorded numbers, and what each method's step looks at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from pytest_regressions.ndarrays_regression import NDArraysRegressionFixture
from torch.nn import functional

from repro.losses import one_hot
from repro.methods import FixMatch, Method, Mpl, PseudoLabel, PseudoLabelMethod, fixmatch, mpl, pseudo_label
from repro.methods.state import Batch
from repro.settings import Optim, Optimiser
from repro.train.loop import Trainer
from tests.tiny import CPU, VARIANTS, TinyNet, settings, tiny_batch, weights

COMMON = {"step", "pseudo_label_wrong"}
FIXED = COMMON | {"teacher_labelled_loss", "pseudo_label_loss", "mask_rate"}
FEEDBACK = COMMON | {"student_loss", "student_labelled_loss", "feedback", "feedback_spread", "feedback_positive",
                     "feedback_gradient_norm", "other_gradient_norm", "teacher_labelled_loss"}  # fmt: skip
NAMES = {
    **{name: {"step", "labelled_loss"} for name in ("supervised", "supervised_mixup")},
    "pseudo_label": FIXED, "uda": COMMON | {"labelled_loss", "uda_loss"},
    "fixmatch": COMMON | {"labelled_loss", "unlabelled_loss", "mask_rate"},
    **dict.fromkeys(("mpl", "mpl_example", "mpl_exact", "mpl_cosine"), FEEDBACK | {"uda_loss"}),
    "mpl_own_labels": FEEDBACK | {"teacher_pseudo_label_loss", "teacher_mask_rate"},
    "mpl_released": FEEDBACK | {"uda_loss", "noise_floor"}, "mpl_shuffled": FEEDBACK | {"noise_floor"},
}  # fmt: skip
# Kernels of other processors sum in another order. Rounding, 1e-7, grows up to a thousandfold in twenty steps, while
# the weights move by tenths: a rate that is 1 % off shows ten times over.
TOLERANCE = {"atol": 1e-4, "rtol": 1e-3}


@pytest.mark.parametrize("data", ["two_moons", "digits"])
@pytest.mark.parametrize("method", VARIANTS)
def test_twenty_steps_are_the_recorded_ones(
    data: str, method: str, ndarrays_regression: NDArraysRegressionFixture, tmp_path: Path
) -> None:
    """Metrics of four windows of five steps, and how far every network moved, are the recorded ones."""
    changes = {"optim__average_decay": 0.9, "optim__student__warmup_steps": 2, "optim__teacher__schedule": "cosine",
               "optim__student__weight_decay": 0.001}  # fmt: skip
    trainer = Trainer(settings(data, VARIANTS[method], **changes), 0, CPU)
    trainer.run(tmp_path / "state")
    names = set(trainer.rows[-1])
    arrays = {key: torch.tensor([row[key] for row in trainer.rows], dtype=torch.float64).numpy() for key in names}
    first, last = (list(trainer.kept.series["snapshots"])[index]["networks"] for index in (0, -1))
    moved = {
        f"moved_{network}": torch.cat([(last[network][k] - first[network][k]).flatten() for k in last[network]])
        for network in last
    }

    assert NAMES[method] == names
    assert min(float(m.abs().max()) for m in moved.values()) > 0.01
    recorded = arrays | {key: value.double().numpy() for key, value in moved.items()}
    ndarrays_regression.check(recorded, default_tolerance=TOLERANCE)


def test_every_method_is_recorded() -> None:
    """A method without recorded numbers would go unseen."""
    assert {kind.name for kind in get_args(get_args(Method)[0])} <= set(VARIANTS)
    assert set(VARIANTS) == set(NAMES)


def test_sampled_labels_follow_the_teacher() -> None:
    """Over a grid of uniform numbers each class is drawn in proportion to its probability; 0 and almost 1 fit too."""
    logits = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64).log().expand(1000, 3)
    batch = tiny_batch(1000, (torch.arange(1000) + 0.5) / 1000)
    edges = tiny_batch(2, torch.tensor([0.0, 1 - 2**-24]))

    assert [600, 300, 100] == mpl.pseudo_label_targets(logits, batch, Mpl()).sum(0).tolist()
    assert [0, 2] == mpl.pseudo_label_targets(logits[:2], edges, Mpl()).argmax(-1).tolist()


def test_argmax_and_soft_targets() -> None:
    """Argmax gives the likeliest class, soft the probabilities, and both are constant."""
    batch = tiny_batch(2)
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]], dtype=torch.float64)

    argmax = mpl.pseudo_label_targets(logits, batch, Mpl(pseudo_label=PseudoLabel.argmax))
    soft = mpl.pseudo_label_targets(logits, batch, Mpl(pseudo_label=PseudoLabel.soft))
    assert torch.equal(one_hot(torch.tensor([1, 0]), 3).double(), argmax)
    torch.testing.assert_close(soft, logits.softmax(dim=-1), rtol=0, atol=1e-14)  # float64 rounding


def one_learner_step(module: Any, config: Any, batch: Batch) -> tuple[Any, list[torch.Tensor]]:
    """The state after one step at rate 1, and what the teacher's weights lost: its gradient."""
    optim = Optim(student=Optimiser(learning_rate=1.0), teacher=Optimiser(learning_rate=1.0))
    state = module.init(lambda name: TinyNet(1 if name == "teacher" else 2), config, optim, 100, ())
    before = weights(state, "teacher")
    module.step(state, batch, config)
    return state, [b - a for b, a in zip(before, weights(state, "teacher"), strict=True)]


def test_fixmatch_by_plain_functions() -> None:
    """FixMatch adds, over all examples, the strong view's loss where the weak view, unsharpened, is sure enough."""
    model, batch = TinyNet(1), tiny_batch(4)
    batch = replace(batch, strong=batch.weak.roll(1, 0))
    confidence, labels = model(batch.weak).softmax(-1).detach().max(-1)
    threshold = float(confidence.sort().values[2])  # two of four pass
    losses = functional.cross_entropy(model(batch.strong), labels, reduction="none")
    labelled = functional.cross_entropy(model(batch.labelled), batch.labels, label_smoothing=0.1)
    loss = labelled + 3 * losses[confidence >= threshold].sum() / 4

    _, actual = one_learner_step(fixmatch, FixMatch(weight=3.0, threshold=threshold, label_smoothing=0.1), batch)

    for a, e in zip(actual, torch.autograd.grad(loss, list(model.parameters())), strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=1e-13)  # float64 rounding


@pytest.mark.parametrize("student_labels", [True, False])
def test_pseudo_label_student_by_plain_functions(student_labels: bool) -> None:
    """After its steps the teacher is fixed; the student learns its confident labels and, if asked, the true ones."""
    state, _ = one_learner_step(pseudo_label, PseudoLabelMethod(teacher_steps=1), tiny_batch(4))
    teacher, student, batch = state.learners["teacher"].model, TinyNet(2), tiny_batch(4)
    confidence, labels = teacher(batch.weak).softmax(-1).detach().max(-1)
    losses = functional.cross_entropy(student(batch.weak), labels, reduction="none", label_smoothing=0.1)
    threshold = float(confidence.sort().values[2])  # two of four reach it, one just so
    loss = losses[confidence >= threshold].sum() / 4
    labelled = functional.cross_entropy(student(batch.labelled), batch.labels, label_smoothing=0.1)
    loss = loss + labelled * student_labels
    fixed, before = weights(state, "teacher"), weights(state, "student")

    config = PseudoLabelMethod(teacher_steps=1, threshold=threshold, student_labels=student_labels, label_smoothing=0.1)
    pseudo_label.step(state, batch, config)

    assert all(torch.equal(f, w) for f, w in zip(fixed, weights(state, "teacher"), strict=True))
    gradient = torch.autograd.grad(loss, list(student.parameters()))
    for b, a, e in zip(before, weights(state, "student"), gradient, strict=True):
        torch.testing.assert_close(b - a, e, rtol=0, atol=1e-13)  # float64 rounding
