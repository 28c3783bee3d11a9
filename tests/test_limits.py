"""Limit cases bit for bit: a method without its own term is the simpler one; stacked runs are single runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from repro.train.loop import Trainer
from tests.tiny import CPU, METHODS, VARIANTS, all_weights, assert_same, settings, trained

UDA = {"weight": 2.0, "temperature": 0.8, "threshold": 0.6, "ramp_steps": 5, "label_smoothing": 0.1}


def role(trainer: Trainer, name: str) -> dict[str, torch.Tensor]:
    """One network's weights, momentum and average."""
    return {k: v for k, v in all_weights(trainer).items() if k.startswith(f"{name}.")}


def mpl(**changes: Any) -> dict[str, Any]:
    """Meta Pseudo Labels over the same UDA teacher."""
    return {"name": "mpl", "uda": dict(UDA)} | changes


@pytest.mark.parametrize("data", ["two_moons", "digits"])
@pytest.mark.parametrize("batch_norm", ["matched", "released"])
def test_without_feedback_the_teacher_is_udas_network(data: str, batch_norm: str) -> None:
    """MPL with no feedback trains its teacher as UDA trains its only network, batch norm and dropout included."""
    common = {"optim__average_decay": 0.9, "optim__teacher__weight_decay": 0.01}
    uda = trained(settings(data, {"name": "uda"} | UDA, **common))
    other = trained(settings(data, mpl(feedback="none", feedback_batch_norm=batch_norm), **common))

    assert_same(role(uda, "teacher"), role(other, "teacher"))


@pytest.mark.parametrize("data", ["two_moons", "digits"])
def test_uda_of_weight_zero_is_supervised(data: str) -> None:
    """UDA at weight 0 does not look at unlabelled examples."""
    assert_same(all_weights(trained(settings(data, {"name": "supervised"}))),
                all_weights(trained(settings(data, {"name": "uda", "weight": 0.0}))))  # fmt: skip


@pytest.mark.parametrize("method", ["uda", "fixmatch"])
def test_full_mask_leaves_the_supervised_gradient(method: str) -> None:
    """On a net without batch norm, a threshold nobody reaches leaves the labels' gradient alone."""
    threshold = {"uda": 1.01, "fixmatch": 1.0}[method]  # a tiny net's probabilities stay below 1
    masked = trained(settings("two_moons", {"name": method, "threshold": threshold, "weight": 5.0}))
    supervised = trained(settings("two_moons", {"name": "supervised"}))

    for key, value in all_weights(supervised).items():
        # Not bit for bit: a matrix product over more rows sums the same numbers in another order.
        torch.testing.assert_close(masked.state.state_dict()[key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", VARIANTS)
def test_stacked_runs_are_the_single_runs(method: str) -> None:
    """Three seeds trained as one stacked model end where each ends alone."""
    config = settings("two_moons", VARIANTS[method], optim__average_decay=0.9, optim__student__clip_norm=0.5)
    stacked = all_weights(trained(config, [0, 3, 5], steps=12 if method == "pseudo_label" else 8))
    for row, seed in enumerate([0, 3, 5]):
        for key, value in all_weights(trained(config, seed, steps=12 if method == "pseudo_label" else 8)).items():
            # A batched matrix product may sum in another order; rounding, 1e-7, grows about tenfold in these steps.
            torch.testing.assert_close(stacked[key][row], value, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("data", ["two_moons", "digits"])
@pytest.mark.parametrize("method", VARIANTS)
def test_hidden_labels_enter_metrics_only(data: str, method: str) -> None:
    """Other hidden labels give other shares of wrong pseudo labels and the same weights, bit for bit."""
    config = settings(data, VARIANTS[method])
    honest, shuffled = (Trainer(config, 0, CPU) for _ in range(2))
    hidden = shuffled.data.hidden_labels
    shuffled.batches.data = replace(shuffled.data, hidden_labels=hidden.roll(7) if data == "digits" else 1 - hidden)
    wrong: list[list[float]] = [[], []]
    for step in range(15):
        for trainer, found in zip((honest, shuffled), wrong, strict=True):
            metrics = trainer.method.step(trainer.state, trainer.batch(step), config.method)
            found.append(float(metrics.get("pseudo_label_wrong", torch.zeros(()))))

    assert_same(all_weights(honest), all_weights(shuffled))
    assert method.startswith("supervised") == (wrong[0] == wrong[1])


@pytest.mark.parametrize("data", ["two_moons", "digits"])
def test_arms_see_the_same_batches_and_views(data: str) -> None:
    """Two methods with one seed get the same examples, labels and views, and start from the same teacher."""
    one, other = (Trainer(settings(data, METHODS[method]), 4, CPU) for method in ("uda", "mpl"))

    assert_same(role(one, "teacher"), role(other, "teacher"))
    for step in (0, 1, 7):
        a, b = vars(one.batch(step)), vars(other.batch(step))
        for key in ("labelled", "labels", "weak", "strong", "hidden_labels"):
            assert torch.equal(a[key], b[key])
    assert not torch.equal(one.batch(0).weak, one.batch(1).weak)


@pytest.mark.parametrize("method", ["mpl", "mpl_exact", "mpl_released", "mpl_example", "mpl_cosine"])
def test_probing_changes_no_weights(method: str) -> None:
    """The metrics that are computed now and then leave the training alone."""
    config = settings("digits", VARIANTS[method])
    probed = Trainer(config, 0, CPU)
    for step in range(8):
        metrics = probed.method.step(probed.state, probed.batch(step, probe=True), config.method)

    assert_same(all_weights(trained(config, steps=8)), all_weights(probed))
    assert {"feedback_gradient_norm", "student_labelled_loss"} <= set(metrics)
