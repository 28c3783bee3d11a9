"""Training on SVHN: every arm of the smoke plan for some steps, and the whole way through the entry points."""

from __future__ import annotations

import time
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from repro.config import Config
from repro.data import SvhnData, source_of
from repro.data.svhn import TEST
from repro.plan import PlannedRun, compose, read_plan
from repro.records.runs import read_runs
from repro.train.loop import OutOfTime, Trainer, finetune
from tests.entry_points import call
from tests.samples import Svhn, taken_for_published
from tests.tiny import CPU, all_weights, assert_same

PROJECT = Path(__file__).parent.parent
ROOT = PROJECT / "experiments"
ARMS = {run.name.removeprefix("svhn_smoke_"): run for run in read_plan(ROOT / "plan/svhn_smoke.yaml")}


@pytest.fixture
def workplace(svhn_noise: Svhn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory is one in which stand-ins for SVHN's files are prepared."""
    svhn_noise.stand_in(monkeypatch)
    monkeypatch.chdir(tmp_path)
    source_of(SvhnData(root=str(svhn_noise.root))).prepare()
    return tmp_path


@cache
def settings(arm: str, *changes: str) -> Config:
    """An arm as the smoke plan has it, over a few steps on 60 images of `train` and 80 of `extra`."""
    run: PlannedRun = ARMS[arm]
    steps = 8 * (2 if arm == "pseudo_label" else 1)
    images = 20 if arm == "paper_mpl_regulariser" else 140
    smaller = ["budget.labelled_batch=6", "budget.unlabelled_batch=8", "data.labels=20", f"data.train_images={images}",
               "data.test_images=30", "optim.student.wait_steps=0", "optim.student.warmup_steps=0",
               "optim.teacher.warmup_steps=0", "finetune.batch=6"]  # fmt: skip
    few = [f"budget.shortened_to={steps}", "budget.log_every=1", "budget.snapshots=2"]
    return compose(run.experiment, [*run.overrides, *smaller, *few, *changes], ROOT)


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_trains_and_the_same_twice(arm: str, tmp_path: Path) -> None:
    """Steps are finite, and identical when run again."""
    first, second = (Trainer(settings(arm), 0, CPU) for _ in range(2))
    for number, trainer in enumerate((first, second)):
        trainer.run(tmp_path / f"state-{number}")

    assert_same(all_weights(first), all_weights(second))
    assert first.rows == second.rows
    assert all(np.isfinite(value) for value in first.rows[-1].values() if value is not None)


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("arm", ["mpl_released", "paper_mpl"])
@pytest.mark.parametrize("balanced", ["false", "true"])
def test_stopped_runs_resume_bit_for_bit(arm: str, balanced: str, tmp_path: Path) -> None:
    """A run stopped on the way ends as the uninterrupted one: its images lie in the same order when mapped again."""
    config = settings(arm, f"data.balanced={balanced}", "budget.shortened_to=20", "finetune.steps=2")
    whole, state = Trainer(config, 0, CPU), tmp_path / "state"
    whole.run(tmp_path / "none")
    with pytest.raises(OutOfTime):
        Trainer(config, 0, CPU).run(state, deadline=time.monotonic() - 1)
    resumed = Trainer(config, 0, CPU)
    resumed.run(state)

    assert_same(all_weights(whole), all_weights(resumed))
    assert whole.rows == resumed.rows
    assert_same(finetune(whole), finetune(resumed))


@pytest.mark.usefixtures("workplace")
def test_arms_of_a_seed_see_the_same_batches() -> None:
    """Labelled and unlabelled images, their labels and views are those of UDA whatever the method."""

    def seen(arm: str) -> dict[str, Tensor]:
        batch = Trainer(settings(arm), 0, CPU).batch(3)
        return {name: getattr(batch, name) for name in ("labelled", "labels", "weak", "strong", "hidden_labels")}

    for arms in (
        ("uda", "mpl", "mpl_no_feedback", "mpl_released"),
        ("paper_uda", "paper_mpl", "paper_mpl_no_feedback"),
    ):
        first, *others = (seen(arm) for arm in arms)
        for other in others:
            assert_same(first, other)
    assert not torch.equal(seen("uda")["weak"], seen("paper_uda")["weak"])  # the labelled ones are among the unlabelled


@pytest.mark.slow
def test_the_whole_way_on_real_digits(svhn_digits: Svhn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare, train and evaluate MPL by both settings as a user runs them: every test image has its prediction."""
    smaller = [f"data.root={svhn_digits.root}", "data.train_images=60", "data.labels=20", "budget.shortened_to=6",
               "data.test_images=20", "data.balanced=false",
               "budget.labelled_batch=8", "finetune.batch=8",
               "budget.snapshots=2", "budget.curve_examples=10"]  # fmt: skip
    plan = read_plan(ROOT / "plan/svhn_smoke.yaml")
    runs = {run.name: {"experiment": run.experiment, "overrides": [*run.overrides, *smaller], "seeds": "0"}
            for run in plan if run.name in {"svhn_smoke_mpl", "svhn_smoke_paper_mpl"}}  # fmt: skip
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"runs": runs}))
    (tmp_path / "experiments").symlink_to(ROOT)
    svhn_digits.stand_in(monkeypatch)

    for arguments in (["prepare"], *(["train", name, "--seeds", "0"] for name in runs), ["evaluate"]):
        done = call(tmp_path, *arguments, spoil=partial(taken_for_published, svhn_digits.published))
        assert (0, "") == (done.returncode, done.stderr), done.stdout

    labels = svhn_digits.labels[TEST]
    recorded = read_runs(tmp_path / "results/runs")
    assert recorded.keys() == runs.keys()
    for name, folders in recorded.items():
        assert [[0]] == [run.seeds for run in folders]
        for run in folders:
            assert len(labels) == run.predictions[run.counted].shape[1]
            share = float((run.predictions[run.counted][0] == labels).mean())
            assert run.accuracy[run.counted] == [pytest.approx(share, abs=1e-12)]
            assert {"test_in_training": 0, "other_label": 0} == run.data["duplicates"]
            assert "datasets" == run.config["data"]["root"]
        assert ("student_finetuned" in folders[0].predictions) == (name == "svhn_smoke_paper_mpl")
