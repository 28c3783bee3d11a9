"""Before a run is trained: what is refused, what stays of its state; what is noted while it trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from repro import jobs
from repro.files import CONFIGS, NOTE, STATE
from repro.settings import ConfigError
from repro.train import launch
from repro.train.checkpoint import Refused
from repro.train.job import Job, Listener
from tests.tiny import METHODS, settings

RUN = "moons_stated_supervised"


@pytest.fixture
def planned(workplace: Path) -> dict[str, Any]:
    """A prepared plan of one run of two seeds; its settings as they lie in its file."""
    plan = {"overrides": ["budget.steps=4", "budget.stack=1"], "runs": {RUN: {"seeds": "0-1"}}}
    (workplace / "p.yaml").write_text(yaml.safe_dump(plan))
    jobs.lay_out(workplace / "p.yaml")
    return yaml.safe_load((CONFIGS / f"{RUN}.yaml").read_text())  # type: ignore[no-any-return]


def test_data_that_have_changed_since_are_refused(planned: dict[str, Any]) -> None:
    """The settings hold the hash of what was prepared."""
    with launch.opened(RUN, "0-1") as found:
        assert ["seed-0", "seed-1"] == [job.folder.name for job in found]
    (CONFIGS / f"{RUN}.yaml").write_text(yaml.safe_dump(planned | {"data_hash": "0" * 64}))

    with pytest.raises(ConfigError, match=r"the data are not the prepared ones for seeds 0-1; run: dvc repro prep"):
        launch.opened(RUN, "0-1").__enter__()


def test_a_state_of_other_seeds_is_refused(planned: dict[str, Any]) -> None:
    """It would be joined with what is trained now, or be lost."""
    (STATE / RUN / "seed-7").mkdir(parents=True)

    with pytest.raises(Refused, match=r"holds seed-7, which is not among the seeds to train.*start anew: rm -r state/"):
        launch.opened(RUN, "0-1").__enter__()


@pytest.mark.parametrize(("asked", "left"), [("0", True), ("0-1", False)])
def test_only_who_asks_for_all_seeds_removes_their_state(
    asked: str, left: bool, planned: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a finished run: a job for one seed must not take away what another machine still reads."""
    (STATE / RUN / "seed-1").mkdir(parents=True)
    monkeypatch.setattr(launch, "is_published", lambda *_: True)
    with launch.opened(RUN, asked) as found:
        assert [] == found

    assert left == (STATE / RUN).exists()


def test_a_plan_takes_the_steps_of_all_seeds_and_few_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seeds of 10 steps and one of 5; workers as the run that wants the fewest."""
    given: list[Any] = []
    monkeypatch.setattr(launch, "train_jobs", lambda *what: given.extend(what) or 0)
    runs = {"a": {"steps": 10, "jobs": {"seed-0": "0", "seed-1": "1"}, "workers": 2},
            "b": {"steps": 5, "jobs": {"seed-0": "0"}, "workers": 1}}  # fmt: skip
    launch.train_plan(runs, "p", 0)

    assert ["p", 25, 1] == given[1:4]


def test_the_noted_pace_is_of_this_start(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """400 steps come from a checkpoint; then 30 take 15 seconds."""
    now = 100.0
    monkeypatch.setattr(launch.time, "monotonic", lambda: now)
    mine = Job("mine", [3], settings("digits", METHODS["uda"], budget__steps=500), STATE / "mine", {})
    listener = launch._noting(mine, Listener(lambda _: None, print, lambda: False))
    for seconds, steps in ((0, 400), (15, 30)):
        now += seconds
        listener.count(steps)

    note = json.loads((mine.folder / NOTE).read_text())
    assert (430, 500, 2.0) == (note["step"], note["steps"], note["rate"])
