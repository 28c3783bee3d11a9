"""A trial of one run: what it prints is what its records say, what is done stays, a record stands in for training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from repro import trial
from repro.config import as_mapping
from repro.plan import compose
from repro.results import Run, joined, read_run, settings_of, write_run
from repro.train.prepare import with_prepared_data
from tests.entry_points import call, ran
from tests.verify_cases import MPL, config, run_of

ROOT = Path(__file__).parents[1]
SMALL = ["budget.snapshots=2", "model.width=2", "budget.unlabelled_batch=16", "budget.labelled_batch=10",
         "finetune.steps=2", "finetune.batch=10"]  # fmt: skip
SHORT = ["budget.shortened_to=20", *SMALL]


def records(run: str, changes: list[str]) -> dict[int, Run]:
    """Of each seed of a trial."""
    folder = trial.TRIALS / trial.trial_name(run, *changes)
    found = [read_run(path.parent) for path in sorted(folder.glob("seed-*/record/seeds.csv"))]
    return {int(run.seeds.index[0]): run for run in found}


def accuracy(record: Run, network: str) -> float:
    """In %."""
    return 100 * float(record.seeds[f"accuracy.{network}"].iloc[0])


@pytest.mark.slow
def test_a_trial_trains_evaluates_and_compares(workplace: Path) -> None:
    """The difference and its interval are those of two seeds by hand; more seeds train what is missing alone."""
    words = ["run", "digits_mpl", *SHORT, "--against", "digits_supervised", *SHORT, "--seeds"]
    said = ran(workplace, *words, "0-1")
    mine, other = records("digits_mpl", SHORT), records("digits_supervised", SHORT)
    first, second = (accuracy(mine[seed], "student") - accuracy(other[seed], "teacher") for seed in (0, 1))
    mean, half = (first + second) / 2, 12.7062 * abs(first - second) / 2  # t of one degree of freedom

    assert f"{accuracy(mine[1], 'student_finetuned'):.2f}" in said
    assert f"student minus teacher, 2 seeds: {mean:+.2f} points" in said
    assert f"95 % interval {mean - half:+.2f} to {mean + half:+.2f}" in said
    assert f"seed by seed: {first:+.2f}  {second:+.2f}" in said
    assert not Path("results").exists()
    assert not list(trial.TRIALS.rglob("checkpoint-*"))

    results = sorted(trial.TRIALS.rglob("result.pt"))
    before = [path.stat().st_mtime_ns for path in results]
    more = ran(workplace, *words, "0-2")
    assert before == [path.stat().st_mtime_ns for path in results]
    assert {0, 1, 2} == set(records("digits_mpl", SHORT))
    assert "3 seeds:" in more


@pytest.mark.slow
def test_an_interrupted_trial_goes_on(workplace: Path) -> None:
    """With the status of what stopped it; it ends with the bits of an unbroken one, and one seed has no interval."""
    short = [*SMALL, "budget.shortened_to=2"]
    limited = [*short, "budget.max_minutes=0.00001"]
    stopped, finished, whole = (call(workplace, "run", "digits_uda", *changes, "--seeds", "3", "--against",
                                     "digits_uda", *changes)
                                for changes in (limited, limited, short))  # fmt: skip
    (interrupted,), (unbroken,) = records("digits_uda", limited).values(), records("digits_uda", short).values()

    assert [75, 0, 0] == [done.returncode for done in (stopped, finished, whole)]
    assert "run again to go on" in stopped.stdout
    assert "resumed_at" in interrupted.seeds
    assert np.array_equal(interrupted.predictions("teacher"), unbroken.predictions("teacher"))
    assert "+0.00 points, no interval: name two seeds or more" in whole.stdout


@pytest.mark.slow
def test_a_record_of_the_same_settings_stands_for_training(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it lacks is said: other settings, seeds that it does not have, other data."""
    ran(workplace, "run", "digits_uda", *SHORT, "--seeds", "0-1")
    (config,) = map(trial.ready, with_prepared_data([compose("digits_uda", SHORT)]))
    recorded = replace(joined(list(records("digits_uda", SHORT).values())), name="digits_uda")
    folder = min(trial.TRIALS.rglob("result.pt")).parent
    mine = read_run(folder / trial._RECORD)
    write_run(replace(mine, seeds=mine.seeds.assign(held_out_hash="0")), folder)  # of other test examples
    assert read_run(trial._evaluated(folder)).seeds["held_out_hash"].tolist() == mine.seeds["held_out_hash"].tolist()

    def answer(record: Run, seeds: list[int]) -> tuple[bool, str]:
        write_run(record)
        found = trial._recorded("digits_uda", config, seeds)
        return found is not None, capsys.readouterr().out

    taken, said = answer(replace(recorded, config=as_mapping(replace(config, title="other", planned_seeds="0,1"))), [1])
    assert taken
    assert "taken from results/runs/digits_uda" in said
    assert (False, "has no seed 2, 5, so it is trained here\n") == _end(answer(recorded, [0, 2, 5]))
    longer = replace(config, budget=replace(config.budget, steps=21))
    other = replace(recorded, config=as_mapping(longer))
    assert settings_of(other) != settings_of(recorded)
    assert (False, "has other settings, so it is trained here\n") == _end(answer(other, [0]))
    moved = replace(recorded, seeds=recorded.seeds.assign(training_hash="0"))
    assert (False, "is of other data, so it is trained here\n") == _end(answer(moved, [0]))


def _end(answer: tuple[bool, str]) -> tuple[bool, str]:
    return answer[0], answer[1].removeprefix("digits_uda: results/runs/digits_uda ")


def test_a_trial_is_called_as_its_changes() -> None:
    """In any order; what no folder can be called is replaced, and a long name is cut, but not made one with others."""
    assert "digits_mpl,budget.steps=20,method.feedback=none" == trial.trial_name(
        "digits_mpl", "method.feedback=none", "budget.steps=20"
    )
    assert "a,title=-x---y-" == trial.trial_name("a", "title='x / y'")
    long = {trial.trial_name("a", f"title={'x' * 200}{end}") for end in "bc"}
    assert [99, 99] == [len(name) for name in long]


def test_seeds_must_be_named(capsys: pytest.CaptureFixture[str], workplace: Path) -> None:
    """Nobody else can know how many a reader wants of a run; a plan says it itself."""
    from repro.__main__ import main

    for words, says in {"digits_mpl": "name its seeds, such as --seeds 0-4", "digits --seeds 0": "digits is a plan",
                        "digits_mpl --seeds 0 --on slurm": "digits_mpl is a run",
                        "digits_mpl --seeds 0 --gpus-per-run 2": "digits_mpl is a run",
                        "digits --seeds-per-job 2": "--on slurm asks for",
                        "digit": "neither a plan nor a run; did you mean 'digits'?"}.items():  # fmt: skip
        with pytest.raises(SystemExit) as end:
            main(["run", *words.split()])
        assert end.value.code == 2
        assert says in capsys.readouterr().err


def test_a_trial_is_compared_seed_by_seed() -> None:
    """Seeds 0, 1 and 2 with 2, 3 and 4 points: 3 +- 4.303 / sqrt 3, p of t = 5.196 with two degrees of freedom."""
    first, second = run_of("a", [930, 920, 950], config(MPL)), run_of("b", [910, 890, 910], config(MPL))

    said = trial.difference(first, second, [0, 1, 2])

    assert "3 seeds: +3.00 points, 95 % interval +0.52 to +5.48 (paired t-test: p = 0.035)" in said
    assert said.endswith("seed by seed: +2.00  +3.00  +4.00")
