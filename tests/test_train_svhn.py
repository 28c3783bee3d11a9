"""Training on SVHN: every run of the plan for some steps, and the whole way through the entry points."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest

from repro.config import Config, expected_networks, read_config
from repro.data.svhn import TEST
from repro.plan import compose, read_plan
from repro.results import read_runs
from repro.train.loop import Trainer
from tests.entry_points import ran, trained
from tests.samples import Svhn, taken_for_published
from tests.tiny import CPU

PROJECT = Path(__file__).parent.parent
ROOT = PROJECT / "experiments"
RUNS = [run.name for run in read_plan(ROOT / "plan/svhn_1k.yaml").runs]


@cache
def settings(run: str, *changes: str) -> Config:
    """A run as the plan has it, with a small network, over a few steps on 60 images of `train` and 80 of `extra`."""
    two_phases = run.endswith("pseudo_label")
    images = 20 if run.endswith("regulariser") else 140
    smaller = ["model.depth=10", "model.width=1", "engine.precision=float32", "engine.channels_last=false",
               "budget.labelled_batch=6", "budget.unlabelled_batch=8", "data.labels=20", f"data.train_images={images}",
               "data.test_images=30", "optim.student.wait_steps=0", "optim.student.warmup_steps=0",
               "optim.teacher.warmup_steps=0", "finetune.batch=6"]  # fmt: skip
    if run.startswith("svhn_released"):  # a ramp of 5,000 of a million steps would be none
        smaller.append(f"method.{'' if run.endswith('_uda') else 'uda.'}ramp_steps=200000")
    few = [f"budget.shortened_to={16 if two_phases else 8}", "budget.log_every=1", "budget.snapshots=2"]
    return compose(run, [*smaller, *few, *changes], ROOT)


@pytest.mark.usefixtures("svhn_workplace")
@pytest.mark.parametrize("run", RUNS)
def test_every_run_trains(run: str, tmp_path: Path) -> None:
    """Steps are finite."""
    trainer = Trainer(settings(run), 0, CPU)
    trainer.run(tmp_path / "state")

    assert 0 < len(trainer.rows)
    assert all(np.isfinite(value) for value in trainer.rows[-1].values() if value is not None)


@pytest.mark.slow
def test_the_whole_way_on_real_digits(svhn_digits: Svhn, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare, train and evaluate MPL by both settings as a user runs them: every test image has its prediction."""
    smaller = [f"data.root={svhn_digits.root}", "data.train_images=60", "data.labels=20", "budget.shortened_to=6",
               "data.test_images=20", "data.balanced=false", "model.depth=10", "model.width=1", "finetune.batch=8",
               "engine.channels_last=false", "engine.precision=float32", "budget.labelled_batch=8",
               "budget.unlabelled_batch=8", "budget.snapshots=2", "budget.curve_examples=10"]  # fmt: skip
    names, published = ["svhn_released_mpl", "svhn_paper_mpl"], partial(taken_for_published, svhn_digits.published)
    svhn_digits.stand_in(monkeypatch)

    trained(workplace, {name: {"overrides": list(smaller), "seeds": "0"} for name in names}, published)
    ran(workplace, "evaluate", spoil=published)

    labels, recorded = svhn_digits.labels[TEST], read_runs(workplace / "results/runs")
    assert sorted(names) == sorted(recorded)
    for name, run in recorded.items():
        counted = expected_networks(read_config(run.config))[1]
        assert (1, len(labels)) == run.predictions(counted).shape
        share = float((run.predictions(counted)[0] == labels).mean())
        assert share == pytest.approx(run.seeds[f"accuracy.{counted}"].item(), abs=1e-12)
        assert (0, 0) == (run.seeds["test_in_training"].item(), run.seeds["other_label"].item())
        assert "datasets" == run.config["data"]["root"]
        assert ("student_finetuned" in run.networks) == (name == "svhn_paper_mpl")
