"""The recorded smoke run of CIFAR-10: every arm trained, on the same data, and differs only where it must."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from repro.config.compose import read_plan
from repro.evaluate.run import EvaluatedRun
from repro.records.runs import read_runs

ROOT = Path(__file__).parent.parent
PREFIX = "cifar10_smoke_"
ARMS = [run.name for run in read_plan(ROOT / "experiments/plan/cifar10_smoke.yaml")]
WITHOUT_GRADIENT = {f"{PREFIX}mpl_released", f"{PREFIX}mpl_soft"}
LOSSES = {
    "supervised": "labelled_loss",
    "uda": "labelled_loss",
    "fixmatch": "labelled_loss",
    "pseudo_label": "teacher_labelled_loss",
    "mpl": "teacher_labelled_loss",
    "reduced_mpl": "teacher_labelled_loss",
}


@cache
def recorded() -> dict[str, list[EvaluatedRun]]:
    """The smoke runs by name."""
    return {name: runs for name, runs in read_runs(ROOT / "results/runs").items() if name.startswith(PREFIX)}


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_is_recorded_and_learned(name: str) -> None:
    """Two seeds of 300 steps, all finite; the loss on labels fell with both, by 5 % on average; averages count."""
    runs, left = recorded()[name], []

    assert [[0], [1]] == [run.seeds for run in runs]
    for run in runs:
        method = run.config["method"]
        trained = method.get("teacher_steps", run.config["budget"]["steps"])
        rows = run.metrics[run.metrics["step"] <= trained]
        loss = rows[LOSSES[method["name"]]].to_numpy()
        assert 300 == trained
        assert not np.isinf(run.metrics.to_numpy(dtype=float)).any()
        assert not rows[LOSSES[method["name"]]].isna().any()
        left.append(loss[-5:].mean() / loss[:5].mean())
        averaged = run.config["optim"]["average_decay"] > 0
        assert averaged == (run.counted.endswith("_average"))
    assert max(left) < 1
    assert np.mean(left) < 0.95


def test_arms_share_their_data() -> None:
    """One split and one test set for all arms and seeds, but for labels apart and the paper's split."""
    hashes = {
        (run.data["training_hash"], run.data["held_out_hash"])
        for name, runs in recorded().items()
        for run in runs
        if name != f"{PREFIX}mpl_labelled_apart" and not name.startswith(f"{PREFIX}paper_") and run.seeds == [0]
    }

    assert len(hashes) == 1


def test_without_feedback_the_teacher_is_uda_s_network() -> None:
    """Bit for bit: the same predictions from the same weights, batches and views."""
    uda, without = recorded()[f"{PREFIX}uda"], recorded()[f"{PREFIX}mpl_no_feedback"]

    for a, b in zip(uda, without, strict=True):
        assert np.array_equal(a.predictions["teacher"], b.predictions["teacher"])
        assert a.metrics["uda_loss"].tolist() == b.metrics["uda_loss"].tolist()


def test_soft_labels_bring_the_teacher_nothing() -> None:
    """The feedback's gradient on the teacher is rounding with soft labels, the released form's among them."""
    largest = {
        name: max(run.metrics["feedback_gradient_norm"].max() for run in runs)
        for name, runs in recorded().items()
        if "feedback_gradient_norm" in runs[0].metrics
    }

    assert {name for name, norm in largest.items() if norm < 1e-5} == WITHOUT_GRADIENT
    assert min(norm for name, norm in largest.items() if name not in WITHOUT_GRADIENT) > 1e-3


def test_the_released_difference_of_losses_has_a_floor() -> None:
    """Over unlike batches h reads something though the student has not moved; over one batch it reads exactly 0."""
    floors = {
        name: np.abs(np.concatenate([run.metrics["noise_floor"] for run in runs])).max()
        for name, runs in recorded().items()
        if "noise_floor" in runs[0].metrics
    }

    assert {f"{PREFIX}mpl_released", f"{PREFIX}mpl_released_batch_norm"} == {n for n, floor in floors.items() if floor}
