"""The recorded runs of CIFAR-10: arms share their data, and differ only where they must."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from repro.config import read_config
from repro.data import source_of
from repro.evaluate.predict import Predictor
from repro.evaluate.weights import read_weights
from repro.plan import read_plan
from repro.results import Run, read_run

ROOT = Path(__file__).parent.parent
ARMS = [run.name for run in read_plan(ROOT / "experiments/plan/cifar10_cpu.yaml").runs]


@cache
def recorded(name: str) -> Run:
    """A run of the plan that a CPU affords."""
    return read_run(ROOT / "results/runs" / name)


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_is_recorded_and_learned(name: str) -> None:
    """Three seeds of 1,000 steps in bfloat16, all finite; the loss on labels fell with each; averages are recorded."""
    run = recorded(name)
    budget = run.config["budget"]
    loss = run.metrics["teacher_labelled_loss" if run.config["method"]["name"] == "mpl" else "labelled_loss"]

    assert [0, 1, 2] == run.seeds.index.tolist()
    assert (1000, 16, 112) == tuple(budget[key] for key in ("steps", "labelled_batch", "unlabelled_batch"))
    assert "bfloat16" == run.config["engine"]["precision"]
    assert np.isfinite(loss).all()
    for group in run.groups():
        mine = loss[run.metrics["seed"] == group].to_numpy()
        assert mine[-5:].mean() < 0.95 * mine[:5].mean()
    assert [name for name in run.networks if name.endswith("_average")]


def test_without_feedback_the_teacher_is_uda_s_network() -> None:
    """Bit for bit: the same predictions from the same weights, batches and views."""
    uda, without = recorded("cifar10_cpu_uda"), recorded("cifar10_cpu_mpl_no_feedback")

    assert np.array_equal(uda.predictions("teacher"), without.predictions("teacher"))
    assert uda.metrics["uda_loss"].tolist() == without.metrics["uda_loss"].tolist()


@pytest.mark.usefixtures("all_of_cifar10")
@pytest.mark.parametrize("path", sorted((ROOT / "results/weights").glob("*.safetensors")), ids=lambda path: path.stem)
def test_kept_weights_predict_what_is_recorded(path: Path) -> None:
    """On the first test images, where CIFAR-10 is at hand: `recompute` takes all of them."""
    kept = read_weights(path)
    run = recorded(kept.run)
    assert kept.revision == run.seeds.loc[kept.seed, "revision"]
    config = read_config(run.config)
    images = source_of(config.data).held_out_set(kept.seed).examples

    classes = Predictor(config, kept.seed).classes(kept.weights, images[:128])[0]

    (row,) = run.rows([kept.seed])
    assert np.mean(classes == run.predictions(kept.network)[row, :128]) > 0.97
