"""The recorded runs of CIFAR-10: arms share their data, and differ only where they must."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from repro.config import read_config
from repro.data import source_of
from repro.evaluate.predict import Predictor
from repro.evaluate.run import EvaluatedRun
from repro.evaluate.weights import read_weights
from repro.plan import read_plan
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


CPU = "cifar10_cpu_"


@cache
def recorded(prefix: str = PREFIX) -> dict[str, list[EvaluatedRun]]:
    """The runs of a group by name."""
    return {name: runs for name, runs in read_runs(ROOT / "results/runs").items() if name.startswith(prefix)}


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


@pytest.mark.parametrize("prefix", [PREFIX, CPU])
def test_without_feedback_the_teacher_is_uda_s_network(prefix: str) -> None:
    """Bit for bit: the same predictions from the same weights, batches and views."""
    uda, without = (recorded(prefix)[f"{prefix}{arm}"] for arm in ("uda", "mpl_no_feedback"))

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


def test_the_arms_at_a_cpu_s_budget_are_the_planned_ones_on_one_split() -> None:
    """All of them, with the same data and the same number of steps; the released form's feedback has no gradient."""
    runs = recorded(CPU)
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
    (run,) = (run for run in recorded(CPU)[kept.run] if run.seeds == [kept.seed])
    assert kept.config == run.config
    assert kept.revision == run.environment["revision"]
    config = read_config(kept.config)
    images = source_of(config.data).held_out_set(kept.seed).examples

    classes = Predictor(config, kept.seed).classes(kept.weights, images[:128])[0]

    assert np.mean(classes == run.predictions[kept.network][0, :128]) > 0.97
