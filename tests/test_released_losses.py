"""Losses and schedules against the authors' released code, on given logits and steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from repro.losses import consistency, cross_entropy, one_hot, probabilities, smooth, soft_cross_entropy
from repro.optim import average_decay, learning_rate, ramp
from repro.settings import Optimiser, Schedule
from tests.released import kept

CASES = kept("uda_loss")["cases"].tolist()
PARTS = [4, 8, 8]  # labelled, unlabelled original, unlabelled augmented


def close(case: str) -> dict[str, Any]:
    """float32 over ten classes; logits near 1000 are 6e-5 apart."""
    return {"rtol": 1e-5, "atol": 1e-4 if case == "edge_offset1000" else 2e-6}


class Case:
    """Logits of one case, and what the released code makes of them."""

    def __init__(self, name: str) -> None:
        golden = kept("uda_loss")
        self.values = {
            key.removeprefix(f"{name}/"): torch.from_numpy(np.asarray(value))
            for key, value in golden.items()
            if key.startswith(f"{name}/")
        }
        self.logits = self.values["logits"].clone().requires_grad_()
        self.labelled, self.weak, self.strong = self.logits.split(PARTS)
        self.labels, self.close = self.values["labels"], close(name)

    def check(self, key: str, actual: Tensor) -> None:
        """Compares with a recorded value."""
        torch.testing.assert_close(actual, self.values[key], **self.close)

    def check_gradient(self, key: str, loss: Tensor, of: Tensor | None = None) -> None:
        """Compares the gradient with a recorded one."""
        gradient = torch.autograd.grad(loss, self.logits if of is None else of, materialize_grads=True)[0]
        torch.testing.assert_close(gradient, self.values[key], **self.close)


@pytest.mark.parametrize("name", CASES)
def test_labelled_loss(name: str) -> None:
    """Cross-entropy with smoothing 0.15 and without, and its gradient; labels may be soft."""
    case = Case(name)
    smoothed = soft_cross_entropy(case.labelled, smooth(case.labels, 0.15)).mean()

    case.check("ce_l", smoothed.detach())
    case.check("ce_l_unsmoothed", soft_cross_entropy(case.labelled, case.labels).mean().detach())
    case.check_gradient("grad_ce_l", smoothed)
    classes = case.labels.argmax(dim=-1)
    if torch.equal(one_hot(classes, 10), case.labels):
        case.check("ce_l", cross_entropy(case.labelled, classes, 0.15).mean().detach())
        case.check("ce_l_unsmoothed", cross_entropy(case.labelled, classes).mean().detach())
        case.check_gradient("grad_ce_l", cross_entropy(case.labelled, classes, 0.15).mean())


@pytest.mark.parametrize("name", CASES)
def test_consistency_loss(name: str) -> None:
    """Value, mask, target and gradient: sharpened by 0.7, kept from 0.6 on, divided by all."""
    case = Case(name)
    losses = consistency(case.weak, case.strong, 0.7, 0.6)
    target = probabilities(case.weak.detach() / 0.7)

    case.check("ce_u", losses.mean().detach())
    case.check("target_u", target)
    case.check_gradient("grad_ce_u", losses.mean())
    assert torch.equal(case.values["mask_u"][:, 0] > 0, losses.detach() > 0)


@pytest.mark.parametrize("name", CASES)
def test_student_and_feedback_loss(name: str) -> None:
    """The student's loss to smoothed soft labels, and the teacher's to its own, whose gradient is 0."""
    case = Case(name)
    own = probabilities(case.strong.detach())
    student = case.values["student_logits_u_aug"].requires_grad_()
    loss, feedback = soft_cross_entropy(student, smooth(own, 0.15)).mean(), soft_cross_entropy(case.strong, own).mean()

    case.check("ce_student_on_u", loss.detach())
    case.check_gradient("grad_student", loss, student)
    case.check("ce_mpl", feedback.detach())
    case.check_gradient("grad_mpl", feedback)
    assert float(case.values["grad_mpl"].abs().max()) < 1e-7


@pytest.mark.parametrize(("name", "student", "teacher", "uda", "ramp_steps", "decay", "steps"), [
    ("cifar10", Optimiser(0.05, Schedule.cosine, 3000, 5000), Optimiser(0.05, Schedule.cosine, 0, 5000),
     8, 5000, 0.995, 300_000),
    ("imagenet", Optimiser(0.4, Schedule.cosine, 20_000, 5000), Optimiser(0.6, Schedule.cosine, 0, 5000),
     20, 50_000, 0.999, 700_000),
])  # fmt: skip
def test_schedules(
    name: str, student: Optimiser, teacher: Optimiser, uda: float, ramp_steps: int, decay: float, steps: int
) -> None:
    """Both learning rates, the ramp and the average's rate at every recorded step."""
    golden = {key.removeprefix(f"{name}/"): value for key, value in kept("schedules").items() if key.startswith(name)}
    at = golden["steps"].tolist()
    assert {0, student.wait_steps, student.wait_steps + 5000, steps - 1, steps} <= set(at)
    expected = {
        "student_lr": [learning_rate(student, step, steps) for step in at],
        "teacher_lr": [learning_rate(teacher, step, steps) for step in at],
        "uda_weight": [uda * ramp(step, ramp_steps) for step in at],
        "ema_one_minus_decay": [1 - average_decay(decay, step) for step in at],
    }

    for key, values in expected.items():
        # float32, relative to the largest: a cosine near -1 and a decay near 1 have no more
        np.testing.assert_allclose(values, golden[key], rtol=0, atol=2e-7 * golden[key].max(), err_msg=key)
