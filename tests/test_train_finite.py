"""NaN and infinity stop a run at the step and name the term that went first; collapse and divergence are said."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from repro.methods.state import Batch
from repro.train.finetune import finetune
from repro.train.health import learns
from repro.train.kept import Kept
from repro.train.loop import Trainer
from repro.train.metrics import NotFinite
from repro.train.storage import load
from tests.tiny import CPU, METHODS, all_weights, assert_same, settings

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


FIRST = {
    ("supervised", "labelled"): "labelled_loss = nan",
    ("uda", "strong"): "uda_loss = nan",
    ("fixmatch", "labelled"): "labelled_loss = nan",
    ("pseudo_label", "labelled"): "pseudo_label_loss|student|teacher.*",
    ("mpl", "labelled"): "teacher_labelled_loss = nan",
    ("mpl", "strong"): "uda_loss = nan",
}


@pytest.mark.parametrize(("method", "part"), FIRST)
@pytest.mark.parametrize("seeds", [0, [0, 1]])
def test_the_bad_step_and_its_first_term_are_named(
    method: str, part: str, seeds: int | list[int], tmp_path: Path
) -> None:
    """Whatever part of a batch is infinite, the run ends with that step's number and what it spoilt first."""
    trainer = trainer_of(method, seeds=seeds)
    poison(trainer, part)

    with pytest.raises(NotFinite, match=rf"^({FIRST[method, part]}).* in step {BAD}.*lower optim") as error:
        trainer.run(tmp_path)

    assert "the weights before it were finite, the largest" in str(error.value)


@pytest.mark.parametrize("method", METHODS)
def test_the_state_before_the_bad_step_is_kept(method: str, tmp_path: Path) -> None:
    """The checkpoint is that of a healthy run at the step, bit for bit; the same command then fails there again."""
    healthy = trainer_of(method)
    for _ in range(BAD):
        healthy.advance()
    bad = trainer_of(method)
    poison(bad, "labelled")
    with pytest.raises(NotFinite, match=re.escape(f"the state before it is kept in {tmp_path}")):
        bad.run(tmp_path)

    (path,) = tmp_path.glob("checkpoint-*.pt")
    kept = load(path)
    assert BAD == kept["step"]
    assert_same(all_weights(healthy), kept["state"])
    again = trainer_of(method)
    poison(again, "labelled")
    with pytest.raises(NotFinite, match=f"in step {BAD}"):
        again.run(tmp_path)


@pytest.mark.parametrize("times", [1, 10])
def test_what_was_kept_since_the_bad_step_is_forgotten(times: int, tmp_path: Path) -> None:
    """Snapshots and late checkpoints between the bad step and the row that notices it do not reach the result."""
    changes = {"budget__log_every": 20, "budget__snapshots": 20, "budget__checkpoint_minutes": 0.0}
    whole, bad, last = (trainer_of("mpl", **changes) for _ in range(3))
    whole.run(tmp_path / "whole")
    poison(bad, "labelled", at=33, times=times)
    with pytest.raises(NotFinite):
        bad.run(tmp_path / "state")
    last.run(tmp_path / "state")

    assert_same(all_weights(whole), all_weights(last))
    for name, series in whole.kept.series.items():
        assert series.steps == last.kept.series[name].steps
        for a, b in zip(series, last.kept.series[name], strict=True):
            for network, values in a["networks"].items():
                assert_same(values, b["networks"][network])


def test_a_run_goes_on_when_the_cause_is_gone(tmp_path: Path) -> None:
    """From the state before the bad step a run ends as if nothing had been, rows of the log included."""
    whole, bad, last = trainer_of("mpl"), trainer_of("mpl"), trainer_of("mpl")
    whole.run(tmp_path / "whole")
    poison(bad, "labelled")
    with pytest.raises(NotFinite):
        bad.run(tmp_path / "state")
    last.run(tmp_path / "state")

    assert_same(all_weights(whole), all_weights(last))
    assert whole.rows == last.rows


def test_weights_are_looked_at_too(tmp_path: Path) -> None:
    """A momentum that overflows stops the run though no loss shows it yet, in the step in which it did."""
    trainer = trainer_of("uda", budget__steps=10)
    apply = trainer.state.learners["teacher"].apply

    def overflowing(gradients: Any, step: int) -> None:
        apply(gradients, step)
        if step == 9:
            trainer.state.learners["teacher"].momentum[0][:] = torch.inf

    trainer.state.learners["teacher"].apply = overflowing  # type: ignore[method-assign]

    with pytest.raises(NotFinite, match=r"^teacher.momentum.0 became NaN or infinite in step 9, while every loss"):
        trainer.run(tmp_path)


def test_what_is_not_finite_is_never_saved(tmp_path: Path) -> None:
    """A checkpoint that falls due in the bad window holds the state before the bad step."""
    trainer = trainer_of("uda", budget__log_every=1000, budget__checkpoint_minutes=0.0)
    poison(trainer, "labelled")

    with pytest.raises(NotFinite, match=f"in step {BAD}"):
        trainer.run(tmp_path)

    for path in tmp_path.glob("checkpoint-*.pt"):
        assert all(bool(torch.isfinite(tensor).all()) for tensor in load(path)["state"].values())


def test_a_machine_that_computes_differently_the_second_time_is_blamed(tmp_path: Path) -> None:
    """When the same steps are finite the second time, the data and settings are not at fault."""
    trainer = trainer_of("uda")
    poison(trainer, "labelled", times=1)

    with pytest.raises(NotFinite, match="does not compute the same twice, so look for a faulty"):
        trainer.run(tmp_path)


def test_a_network_that_starts_without_numbers_is_refused(tmp_path: Path) -> None:
    """Before the first step."""
    trainer = trainer_of("mpl")
    trainer.state.learners["student"].parameters[0].data.fill_(torch.nan)

    with pytest.raises(NotFinite, match=r"student.model.weights is not finite after step 0; lower"):
        trainer.run(tmp_path)


def test_finetuning_that_diverges_is_refused(tmp_path: Path) -> None:
    """Finetuned weights without numbers are not a result."""
    trainer = trainer_of("mpl", "digits", finetune__steps=30)
    trainer.config.finetune.learning_rate = 1e30
    trainer.run(tmp_path)

    with pytest.raises(NotFinite, match=r"finetuning made .* NaN or infinite; lower finetune.learning_rate = 1e\+30"):
        finetune(trainer)


@pytest.mark.parametrize("seeds", [0, [0, 1, 2]])
def test_collapse_and_divergence_are_said(seeds: int | list[int], tmp_path: Path) -> None:
    """A network that predicts one class, surely and wrongly, is told by both; of a stack, how many do."""
    trainer = trainer_of("uda", seeds=seeds)
    said: list[str] = []
    trainer.run(tmp_path, say=said.append)
    assert [f"WARNING {warning}" for warning in trainer.kept.warnings] == said
    assert [] == [text for text in said if "step 40" in text]
    learner, of = trainer.state.learners["teacher"], " in 2 of 3 runs" if isinstance(seeds, list) else ""
    forward, surely = learner.model.forward, torch.tensor([100.0, 0.0])
    if isinstance(seeds, list):
        surely = torch.stack([surely, surely, 0 * surely])[:, None]
    learner.model.forward = lambda x, noise=None: forward(x, noise) + surely  # type: ignore[method-assign]
    trainer.kept = Kept(trainer.config, "teacher", trainer.data)
    said.clear()

    trainer.kept.after_step(trainer.state, said.append)

    complaints = [f"predicts one class for all of 6 labelled examples{of}",
                  f"has a labelled loss above 3.5, 5 times that of a guess{of}"]  # fmt: skip
    assert [f"step 40: teacher {complaint}" for complaint in complaints] == trainer.kept.warnings
    assert [f"WARNING {warning}" for warning in trainer.kept.warnings] == said


def test_a_network_is_looked_at_once_it_learns() -> None:
    """Not while its rate is 0 or warming up, nor before its teacher is done, nor in the first tenth."""
    slow = settings("two_moons", METHODS["mpl"], optim__student__wait_steps=3, optim__student__warmup_steps=2)
    fixed = settings("two_moons", METHODS["pseudo_label"])

    assert [False, True] == [learns(slow, "student", step) for step in (5, 6)]
    assert [False, True] == [learns(slow, "teacher", step) for step in (2, 3)]
    assert [False, True] == [learns(fixed, "student", step) for step in (11, 12)]
