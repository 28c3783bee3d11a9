"""The recorded runs of CIFAR-10: arms share their data, and differ only where they must."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from repro.data.held_out import held_out_set

from repro.config import read_config
from repro.evaluate.predict import Predictor
from repro.evaluate.run import EvaluatedRun
from repro.plan import read_plan
from repro.records.runs import read_runs
from repro.records.weights import read_weights

ROOT = Path(__file__).parent.parent
CPU = "cifar10_cpu_"


@cache
def recorded() -> dict[str, list[EvaluatedRun]]:
    """The runs at a CPU's budget, by name."""
    return {name: runs for name, runs in read_runs(ROOT / "results/runs").items() if name.startswith(CPU)}


def test_without_feedback_the_teacher_is_uda_s_network() -> None:
    """Bit for bit: the same predictions from the same weights, batches and views."""
    uda, without = (recorded()[f"{CPU}{arm}"] for arm in ("uda", "mpl_no_feedback"))

    for a, b in zip(uda, without, strict=True):
        assert np.array_equal(a.predictions["teacher"], b.predictions["teacher"])
        assert a.metrics["uda_loss"].tolist() == b.metrics["uda_loss"].tolist()


def test_the_released_difference_of_losses_has_a_floor() -> None:
    """Over unlike batches h reads something though the student has not moved; over one batch it reads exactly 0."""
    floors = {
        name: np.abs(np.concatenate([run.metrics["noise_floor"] for run in runs])).max()
        for name, runs in recorded().items()
        if "noise_floor" in runs[0].metrics
    }

    assert {f"{CPU}mpl": False, f"{CPU}mpl_released": True} == {name: floor > 0 for name, floor in floors.items()}


def test_the_arms_at_a_cpu_s_budget_are_the_planned_ones_on_one_split() -> None:
    """All of them, with the same data and the same number of steps; the released form's feedback has no gradient."""
    runs = recorded()
    found = [one for of_arm in runs.values() for one in of_arm]

    assert {run.name for run in read_plan(ROOT / "experiments/plan/cifar10_cpu.yaml")} == set(runs)
    assert 1 == len({(run.data["training_hash"], run.data["held_out_hash"]) for run in found})
    assert {(1000, 16, 112, "bfloat16")} == {
        (*(run.config["budget"][key] for key in ("steps", "labelled_batch", "unlabelled_batch")),
         run.config["engine"]["precision"])
        for run in found
    }  # fmt: skip
    norms = {name: [run.metrics["feedback_gradient_norm"].max() for run in runs[f"{CPU}{name}"]]
             for name in ("mpl", "mpl_released")}  # fmt: skip
    assert min(norms["mpl"]) > 1e-3
    assert max(norms["mpl_released"]) < 1e-6


@pytest.mark.usefixtures("cifar10_workplace")
@pytest.mark.parametrize("path", sorted((ROOT / "results/weights").glob("*.safetensors")), ids=lambda path: path.stem)
def test_kept_weights_predict_what_is_recorded(path: Path) -> None:
    """On the first test images, where CIFAR-10 is at hand: `recompute` takes all of them."""
    kept = read_weights(path)
    (run,) = (run for run in recorded()[kept.run] if run.seeds == [kept.seed])
    assert kept.config == run.config
    assert kept.revision == run.environment["revision"]
    config = read_config(kept.config)
    images = held_out_set(config.data, kept.seed).examples

    classes = Predictor(config, kept.seed).classes(kept.weights, images[:128])[0]

    assert np.mean(classes == run.predictions[kept.network][0, :128]) > 0.97
