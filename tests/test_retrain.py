"""Recorded seeds trained again: how far they may be off, an invented record, which are drawn or named."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from repro import retrain
from repro.config import as_mapping
from repro.plan import compose
from repro.results import RUNS, Run, read_run
from repro.settings import ConfigError
from repro.train.prepare import with_prepared_data
from repro.trial import trained

ROOT = Path(__file__).parents[1]
CONFIG: dict[str, Any] = as_mapping(compose("digits_supervised"))


def run_with(accuracies: list[float], predictions: list[list[int]]) -> Run:
    """Seeds 0, 1, ... with these accuracies in %."""
    seeds = pd.DataFrame({"group": [str(seed) for seed in range(len(accuracies))],
                          "accuracy.teacher": np.array(accuracies) / 100})  # fmt: skip
    return Run("digits_supervised", CONFIG, seeds, pd.DataFrame(), {"predictions.teacher": np.array(predictions)})


@pytest.mark.parametrize(("again", "as_recorded"), [(88.5, True), (91.5, True), (85.9, False), (94.1, False)])
def test_a_seed_may_end_like_another_one(again: float, as_recorded: bool) -> None:
    """Seeds of 89, 90 and 91 % deviate by 1 point, so 4 points are the bound; half of the predictions are equal."""
    recorded = run_with([90, 89, 91], [[0, 1, 2, 3], [0, 0, 0, 0], [0, 0, 0, 0]])

    held = retrain.compared(recorded, run_with([again], [[0, 1, 3, 2]]), [0])

    assert (0.5, again - 90, 4) == pytest.approx((held.equal, held.points, held.bound))
    assert as_recorded is held.as_recorded


def test_one_seed_alone_may_move_by_a_point() -> None:
    """It has no spread; of stacked seeds the furthest one decides, whichever way it went."""
    assert retrain.LEAST == retrain.compared(run_with([90], [[0]]), run_with([90], [[0]]), [0]).bound
    held = retrain.compared(run_with([90, 90], [[0], [0]]), run_with([91, 87], [[0], [1]]), [0, 1])
    assert (0.5, -3, 1) == pytest.approx((held.equal, held.points, held.bound))


def test_an_invented_record_is_found_and_an_honest_one_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twenty steps of digits, recorded as trained, and as if 96 % had been reached."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    config = compose("digits_supervised", ["budget.steps=20", "budget.snapshots=1", "optim.student.warmup_steps=0",
                                           "optim.teacher.warmup_steps=0", "budget.workers=1"])  # fmt: skip
    (config,) = with_prepared_data([config])
    honest = replace(trained(["digits_supervised"], config, [0, 1]), name="digits_supervised")
    invented = replace(honest, seeds=honest.seeds.assign(**{"accuracy.teacher": 0.96}))
    shutil.rmtree("artifacts/trials")

    found = [retrain.against_record(run, [1]) for run in (honest, invented)]

    assert [(1.0, True), (1.0, False)] == [(held.equal, held.as_recorded) for held in found]
    assert capsys.readouterr().out


def test_seeds_are_drawn_or_named() -> None:
    """A mistake is one sentence with the remedy; a stacked seed brings its whole group."""
    runs = {name: read_run(ROOT / RUNS / name) for name in ("digits_quick_mpl", "moons_tuned_mpl")}

    assert 3 == len({(name, tuple(group)) for name, group in retrain._chosen("3", runs)})
    fetched = {"cifar10_cpu_mpl": read_run(ROOT / RUNS / "cifar10_cpu_mpl")}  # whose data are not drawn at random
    assert 7 == len(retrain._chosen("7", runs | fetched))
    with pytest.raises(ConfigError, match="wants a number up to 7"):
        retrain._chosen("8", runs | fetched)
    assert [("digits_quick_mpl", [2])] == retrain._chosen("digits_quick_mpl:2", runs)
    assert [("moons_tuned_mpl", list(range(50)))] == retrain._chosen("moons_tuned_mpl:7", runs)
    for word, says in {"0": "wants a number up to 7", "digits_quick_mp:1": "did you mean 'digits_quick_mpl'",
                       "digits_quick_mpl:9": "has no seed 9; its seeds are 0, 1, 2, 3, 4"}.items():  # fmt: skip
        with pytest.raises(ConfigError, match=says):
            retrain._chosen(word, runs)
