"""The loop: resume bit for bit, other states refused, snapshots, finetuning a copy, results that come back."""

from __future__ import annotations

import itertools
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from repro.config import Config
from repro.train.checkpoint import Result, Series, load_results, save_result
from repro.train.kept import late_steps
from repro.train.loop import NotFinite, Stopped, Trainer, Window, finetune
from tests.tiny import CPU, METHODS, VARIANTS, all_weights, assert_same, assert_same_training, settings


def long(data: str, method: str, **changes: Any) -> Config:
    """40 steps, so that saved states lie within a window of 5 and between snapshots; everything is switched on."""
    budget = {"budget__steps": 40, "budget__snapshots": 5, "optim__average_decay": 0.9}
    return settings(data, VARIANTS[method], **budget | changes)


def has_reached(trainer: Trainer, step: int) -> bool:
    """Whether it is at this step."""
    return trainer.state.step == step


def assert_same_run(expected: Trainer, actual: Trainer) -> None:
    """Weights, rows and snapshots, bit for bit."""
    assert_same_training(expected, actual)
    for name in ("snapshots", "late"):
        assert expected.kept.series[name].steps == actual.kept.series[name].steps
        for a, b in zip(expected.kept.series[name], actual.kept.series[name], strict=True):
            assert a["step"] == b["step"]
            assert a["networks"].keys() == b["networks"].keys()
            for network, values in a["networks"].items():
                assert_same(values, b["networks"][network])


@pytest.mark.parametrize(("data", "seeds"), [("two_moons", [0, 1]), ("digits", 0)])
@pytest.mark.parametrize("method", [*METHODS, "mpl_shuffled", "mpl_exact", "mpl_cosine"])
def test_killed_runs_resume_bit_for_bit(data: str, seeds: int | list[int], method: str, tmp_path: Path) -> None:
    """A run stopped within windows, and resumed by a fresh trainer each time, ends as the uninterrupted one."""
    config, state_file = long(data, method), tmp_path / "state"
    whole = Trainer(config, seeds, CPU)
    whole.run(tmp_path / "other")
    for stopped_at in (8, 23):
        trainer = Trainer(config, seeds, CPU)
        with pytest.raises(Stopped):
            trainer.run(state_file, stop=partial(has_reached, trainer, stopped_at))
        assert stopped_at == trainer.state.step
    last = Trainer(config, seeds, CPU)
    last.run(state_file)

    assert 8 == len(last.rows)
    assert_same_run(whole, last)


def test_one_bad_run_of_a_stack_stops_it() -> None:
    """One infinite value among the stacked runs and steps is enough."""
    window = Window()
    window.add({"loss": torch.tensor([1.0, 2.0])})
    window.add({"loss": torch.tensor([1.0, float("inf")])})

    with pytest.raises(NotFinite, match="loss = inf within the 2 steps before step 9"):
        window.close(9)


def test_rows_are_means_over_steps_and_runs() -> None:
    """A row is the mean over steps and runs; h also has its spread over steps and the share of runs with h > 0."""
    window = Window()
    window.add({"feedback": torch.tensor([1.0, -2.0, 0.0, 0.0]), "rare": torch.tensor([4.0, 6.0, 5.0, 5.0])})
    window.add({"feedback": torch.tensor([3.0, -2.0, 0.0, 0.0])})

    expected = {"feedback": 0.0, "feedback_spread": 0.25, "feedback_positive": 0.25, "rare": 5.0}
    assert expected == window.close(2)
    assert {} == window.close(3)


def test_late_checkpoints_are_the_last_of_a_thousand() -> None:
    """20 checkpoints a thousandth apart up to the last step; a short run keeps its last steps, each once."""
    assert [9810, 9820, 9990, 10_000] == [late_steps(10_000)[i] for i in (0, 1, -2, -1)]
    assert list(range(581, 601)) == late_steps(600)
    assert list(range(1, 11)) == late_steps(10)
    assert 20 == len(late_steps(1_000_000))
    assert [9990, 10_000] == late_steps(10_000, 2)


def test_little_is_kept_where_little_is_wanted(tmp_path: Path) -> None:
    """Without snapshots and with one late checkpoint, the last step's weights are all."""
    trainer = Trainer(long("two_moons", "mpl", budget__snapshots=0, budget__late=1), 0, CPU)
    trainer.run(tmp_path)

    assert {"snapshots": [40], "late": [40]} == {name: series.steps for name, series in trainer.kept.series.items()}


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_the_last_late_checkpoint_is_the_final_network_that_counts(decay: float, tmp_path: Path) -> None:
    """Averaged weights where there are any, else the last ones; of the student, not of its teacher."""
    trainer = Trainer(long("digits", "mpl", optim__average_decay=decay), 0, CPU)
    trainer.run(tmp_path / "state")

    counted = "student_average" if decay else "student"

    snapshots, late = (list(trainer.kept.series[name]) for name in ("snapshots", "late"))
    assert_same(snapshots[-1]["networks"][counted], late[-1]["networks"]["counted"])
    assert 40 == late[-1]["step"]


def test_run_keeps_snapshots_of_all_networks(tmp_path: Path) -> None:
    """Snapshots hold the start, the marked steps and the end, of each network and average, as copies."""
    trainer = Trainer(long("two_moons", "mpl"), 0, CPU)
    start = all_weights(trainer)
    trainer.run(tmp_path / "state")

    snapshots = list(trainer.kept.series["snapshots"])
    assert [0, 8, 16, 24, 32, 40] == [s["step"] for s in snapshots]
    assert {"teacher", "teacher_average", "student", "student_average"} == set(snapshots[3]["networks"])
    first = {f"teacher.model.{k}": v for k, v in snapshots[0]["networks"]["teacher"].items()}
    assert_same({k: start[k] for k in first}, first)


@pytest.mark.parametrize("data", ["two_moons", "digits"])
@pytest.mark.parametrize("average", [0.0, 0.9])
def test_finetuning_changes_a_copy(data: str, average: float, tmp_path: Path) -> None:
    """Finetuned weights start from the average if there is one, lower the labelled loss, and leave the run alone."""
    changes = {"optim__average_decay": average, "finetune__steps": 10, "finetune__learning_rate": 0.05}
    trainer = Trainer(long(data, "mpl", **changes), 0, CPU)
    trainer.run(tmp_path / "state")
    before, learner = all_weights(trainer), trainer.state.learners["student"]

    tuned = finetune(trainer)

    assert_same(before, all_weights(trainer))
    assert learner.model.training
    start = learner.average if average else learner.model.state_dict()
    largest = max(float((tuned[k] - start[k]).abs().max()) for k in tuned)
    assert 0 < largest < 0.5
    assert all(torch.equal(tuned[k], start[k]) for k in tuned if "running" in k)
    trainer.config.finetune.steps = 0
    assert_same({k: v.clone() for k, v in start.items()}, finetune(trainer))


def test_finetuning_is_plain_gradient_descent() -> None:
    """Three steps on all labels are three steps of gradient descent at one rate."""
    changes = {"finetune__steps": 3, "finetune__learning_rate": 0.05, "finetune__batch": 6}
    trainer = Trainer(settings("two_moons", {"name": "mpl"}, **changes), 0, CPU)
    other = Trainer(settings("two_moons", {"name": "mpl"}), 0, CPU).state.learners["student"].model
    optimiser = torch.optim.SGD(other.parameters(), 0.05)
    for _ in range(3):
        optimiser.zero_grad()
        functional.cross_entropy(other(trainer.data.labelled), trainer.data.labels).backward()
        optimiser.step()

    torch.testing.assert_close(finetune(trainer)["weights"], other.state_dict()["weights"], rtol=0, atol=1e-6)


def test_views_of_finetuning_are_drawn_after_those_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its steps are counted on from the last one of training, so that no view comes a second time."""
    changes = {"finetune__steps": 3, "finetune__batch": 6}
    trainer = Trainer(settings("digits", {"name": "mpl"}, **changes), 0, CPU)
    seen, views = [], trainer.batches.labelled_alone
    monkeypatch.setattr(
        trainer.batches, "labelled_alone", lambda index, step: seen.append((step, views(index, step))) or seen[-1][1]
    )

    finetune(trainer)

    assert [20, 21, 22] == [step for step, _ in seen]
    index = torch.arange(6)
    assert not torch.equal(views(index, 0)[0], views(index, 20)[0])


@pytest.mark.parametrize("data", ["two_moons", "digits"])
def test_every_seed_and_role_starts_elsewhere(data: str) -> None:
    """Teachers and students of two seeds are four different networks before the first step; stacked seeds are those."""

    def weights(trainer: Trainer) -> list[torch.Tensor]:
        return [learner.parameters[0].detach() for learner in trainer.state.learners.values()]

    first, second = (weights(Trainer(settings(data, {"name": "mpl"}), seed, CPU)) for seed in (3, 8))

    assert not any(torch.equal(a, b) for a, b in itertools.combinations([*first, *second], 2))
    if data == "two_moons":
        stacked = weights(Trainer(settings(data, {"name": "mpl"}), [3, 8], CPU))
        assert all(torch.equal(torch.stack(pair), both) for *pair, both in zip(first, second, stacked, strict=True))


def test_more_time_goes_on_from_the_state(tmp_path: Path) -> None:
    """A longer time limit or other workers decide no number: the saved state is gone on from."""
    with pytest.raises(Stopped):
        Trainer(long("two_moons", "uda", budget__max_minutes=1.0), 0, CPU).run(tmp_path / "state", deadline=0)
    told: list[int] = []
    trainer = Trainer(long("two_moons", "uda", budget__max_minutes=9.0, budget__workers=1), 0, CPU)
    trainer.run(tmp_path / "state", progress=told.append)

    assert [16, 16, 8, 0] == told


def test_results_come_back_in_order(tmp_path: Path) -> None:
    """Results of several seeds are read in the order of seeds; none at all is an error with the remedy."""
    none = Series("snapshots"), Series("late")
    for seed in (10, 2):
        save_result(tmp_path / f"seed-{seed}", Result({}, [seed], False, "student", {}, [], *none, {}, {}))

    assert [[2], [10]] == [result.seeds for result in load_results(tmp_path)]
    with pytest.raises(FileNotFoundError, match="dvc repro train@"):
        load_results(tmp_path / "none")


# Minutes that are kept: as many steps as fit until an end, by a clock that the test turns


class Clock:
    """Each step of training takes as long as `seconds` says of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.seconds = 0.0, [1.0]
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        advance = Trainer.advance

        def slow(trainer: Trainer) -> bool:
            self.now += self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]
            return advance(trainer)

        monkeypatch.setattr(Trainer, "advance", slow)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Of the training loop."""
    return Clock(monkeypatch)


def trainer(steps: int) -> Trainer:
    """A run that is planned to have so many steps, on a falling rate after a warm-up of a tenth."""
    optimiser = {"learning_rate": 0.01, "schedule": "cosine", "warmup_steps": steps // 10}
    return Trainer(settings("two_moons", {"name": "supervised"}, budget__steps=steps,
                            optim__teacher=optimiser, budget__snapshots=2), 0, CPU)  # fmt: skip


@pytest.mark.parametrize(("seconds", "steps"), [
    ([1.0], (99, 100)),  # as planned
    ([4.0], (24, 26)),  # four times as slow as was measured
    ([0.5], (196, 200)),  # twice as fast
    ([1.0] * 50 + [5.0], (60, 61)),  # others begin to compute half way
])  # fmt: skip
def test_training_ends_when_asked(seconds: list[float], steps: tuple[int, int], clock: Clock, tmp_path: Path) -> None:
    """100 steps are planned for 100 seconds; whatever the machine does, it ends within a step or two of them."""
    run, clock.seconds = trainer(100), list(seconds)
    run.run(tmp_path, ends=100.0)

    assert steps[0] <= run.state.step <= steps[1]
    assert 93 <= clock.now <= 100 + seconds[-1]
    learner = run.state.learners["teacher"]
    assert (run.state.step, run.state.step) == (learner.total_steps, run.config.budget.steps)
    assert learner.config.warmup_steps == round(0.1 * run.state.step)
    assert float(learner.learning_rate(run.state.step)) == pytest.approx(0)  # the schedule came to its end
    assert run.rows[-1]["step"] == run.state.step == run.kept.series["snapshots"].steps[-1]


def test_a_run_that_stopped_goes_on_with_the_steps_it_had(clock: Clock, tmp_path: Path) -> None:
    """Its schedule is the one it was on, and what it was begun with still names its state."""
    first, clock.seconds = trainer(100), [4.0]
    with pytest.raises(Stopped):
        first.run(tmp_path, ends=100.0, stop=lambda: first.state.step == 10)
    second = trainer(100)
    second.run(tmp_path, ends=math.inf)

    assert second.state.step == first.config.budget.steps < 30
