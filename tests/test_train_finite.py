"""NaN and infinity stop a run within a row of the log, checkpoints stay; collapse and divergence are said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from repro.methods.state import Batch
from repro.train.checkpoint import load
from repro.train.kept import Kept, learns
from repro.train.loop import NotFinite, Trainer, finetune
from tests.tiny import CPU, METHODS, assert_same_training, settings

STEPS, BAD = 40, 13  # the bad step lies within the third window of 5


def trainer_of(method: str, data: str = "two_moons", seeds: int | list[int] = 0, **changes: Any) -> Trainer:
    """A run of 40 steps with averages."""
    budget = {"budget__steps": STEPS, "budget__snapshots": 5, "optim__average_decay": 0.9}
    return Trainer(settings(data, METHODS[method], **budget | changes), seeds, CPU)


def poison(trainer: Trainer, part: str, at: int = BAD, times: int = 10) -> None:
    """Makes the batch of one step infinite in one part, the first `times` that it is asked for."""
    healthy, left = trainer.batch, [times]

    def batch(step: int, probe: bool = False) -> Batch:
        found = healthy(step, probe)
        if step != at or not left[0]:
            return found
        left[0] -= 1
        return replace(found, **{part: torch.full_like(getattr(found, part), torch.inf)})

    trainer.batch = batch  # type: ignore[method-assign]


POISONED = [
    ("supervised", "labelled"), ("uda", "strong"), ("fixmatch", "labelled"), ("pseudo_label", "labelled"),
    ("mpl", "labelled"), ("mpl", "strong"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "part"), POISONED)
def test_the_steps_of_the_bad_row_are_named(method: str, part: str, tmp_path: Path) -> None:
    """Whatever part of a batch is infinite, the run ends with the steps since the last row, rates and the folder."""
    trainer = trainer_of(method, seeds=[0, 1])
    poison(trainer, part)

    with pytest.raises(NotFinite, match=r" = nan within the \d steps before step 15; lower optim") as error:
        trainer.run(tmp_path)

    assert "after step 10 and by step 15 (optim.teacher.learning_rate = 0.3" in str(error.value)
    assert str(error.value).endswith(f"no state has been saved yet; to start anew: rm -r {tmp_path}")


@pytest.mark.parametrize("method", METHODS)
def test_a_run_goes_on_from_the_checkpoint_before_it(method: str, tmp_path: Path) -> None:
    """What is not finite is never saved; once the cause is gone, the run ends as if nothing had been, bit for bit."""
    whole, bad, last = (trainer_of(method, budget__checkpoint_minutes=0.0) for _ in range(3))
    whole.run(tmp_path / "whole")
    poison(bad, "labelled")
    with pytest.raises(NotFinite, match=f"the last saved state is kept in .*checkpoint-{BAD:09d}"):
        bad.run(tmp_path / "state")
    for path in (tmp_path / "state").glob("checkpoint-*.pt"):
        assert load(path)["step"] <= BAD
        assert all(bool(torch.isfinite(tensor).all()) for tensor in load(path)["state"].values())
    last.run(tmp_path / "state")

    assert_same_training(whole, last)
    for name, series in whole.kept.series.items():
        assert series.steps == last.kept.series[name].steps


@pytest.mark.parametrize("part", ["model.weights", "momentum.0", "average.weights"])
def test_weights_are_looked_at_too(part: str, tmp_path: Path) -> None:
    """A weight, momentum or average that overflows stops the run though no loss shows it yet."""
    trainer = trainer_of("uda", budget__steps=10)
    learner = trainer.state.learners["teacher"]
    apply = learner.apply

    def overflowing(gradients: Any, step: int) -> None:
        apply(gradients, step)
        if step == 9:
            learner.state_dict()[part][:] = torch.inf

    learner.apply = overflowing  # type: ignore[method-assign]

    with pytest.raises(NotFinite, match=rf"^teacher.{part} is not finite after step 10; lower"):
        trainer.run(tmp_path)


def test_finetuning_that_diverges_is_refused(tmp_path: Path) -> None:
    """Finetuned weights without numbers are not a result."""
    trainer = trainer_of("mpl", "digits", finetune__steps=30)
    trainer.config.finetune.learning_rate = 1e30
    trainer.run(tmp_path)

    with pytest.raises(NotFinite, match=r"finetuning made .* NaN or infinite; lower finetune.learning_rate = 1e\+30"):
        finetune(trainer)


def test_collapse_and_divergence_are_said(tmp_path: Path) -> None:
    """A network that predicts one class, surely and wrongly, is told by both; of a stack, how many do."""
    trainer = trainer_of("uda", seeds=[0, 1, 2])
    said: list[str] = []
    trainer.run(tmp_path, say=said.append)
    assert [f"WARNING {warning}" for warning in trainer.kept.warnings] == said
    assert [] == [text for text in said if "step 40" in text]
    learner = trainer.state.learners["teacher"]
    forward, surely = learner.model.forward, torch.tensor([[[100.0, 0.0]], [[100.0, 0.0]], [[0.0, 0.0]]])
    learner.model.forward = lambda x, noise=None: forward(x, noise) + surely  # type: ignore[method-assign]
    trainer.kept = Kept(trainer.config, "teacher", trainer.data)
    said.clear()

    trainer.kept.after_step(trainer.state, said.append)

    complaints = ["predicts one class for all of 6 labelled examples in 2 of 3 runs",
                  "has a labelled loss above 3.5, 5 times that of a guess in 2 of 3 runs"]  # fmt: skip
    assert [f"step 40: teacher {complaint}" for complaint in complaints] == trainer.kept.warnings
    assert [f"WARNING {warning}" for warning in trainer.kept.warnings] == said


def test_a_network_is_looked_at_once_it_learns() -> None:
    """Not while its rate is 0 or warming up, nor before its teacher is done, nor in the first tenth."""
    slow = settings("two_moons", METHODS["mpl"], optim__student__wait_steps=3, optim__student__warmup_steps=2)
    fixed = settings("two_moons", METHODS["pseudo_label"])

    assert [False, True] == [learns(slow, "student", step) for step in (5, 6)]
    assert [False, True] == [learns(slow, "teacher", step) for step in (2, 3)]
    assert [False, True] == [learns(fixed, "student", step) for step in (11, 12)]
