"""`repro <verb>` as a user meets it: the whole chain, kill and resume, exit statuses, what is left of a run."""

from __future__ import annotations

import importlib
import inspect
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from repro.__main__ import complete, parsers
from repro.results import read_runs
from repro.train import job
from repro.train.loop import NotFinite
from tests.entry_points import call, python, ran, started
from tests.survival import outcome

ROOT = Path(__file__).parent.parent
RUN = "moons_tuned_mpl"
TRAIN = ("train", RUN, "--seeds", "0-3")
SHORT = ["budget.steps=400", "budget.stack=2", "budget.log_every=30", "budget.snapshots=3"]
LONG = ["budget.steps=100000", "budget.stack=2"]
TOO_LONG = [*LONG, "budget.max_minutes=0.005"]


def planned(workplace: Path, overrides: list[str]) -> None:
    """Plans the run with these changes, and prepares it."""
    plan = {"runs": {RUN: {"overrides": overrides, "seeds": "0-3"}}}
    (workplace / "params.yaml").write_text(yaml.safe_dump(plan))
    ran(workplace, "prepare")


@pytest.fixture(autouse=True)
def _readme(workplace: Path) -> None:
    """Which the report fills in."""
    (workplace / "README.md").write_text((ROOT / "README.md").read_text())


def wait_until(found: Callable[[], Any]) -> Any:
    """What is found, once it is something."""
    deadline = time.monotonic() + 100
    while not (what := found()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return what


AT_A_PROMPT = """
import contextlib, io, sys
from repro.__main__ import main
for words in (["--help"], ["show"], ["show", "digits_mpl"], ["plan", "--list"]):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            main(words)
        except SystemExit as end:
            assert not end.code, words
    assert said.getvalue(), words
print(*sorted({"torch", "pandas", "scipy", "matplotlib", "sklearn"} & sys.modules.keys()))
"""


def test_what_answers_at_a_prompt_loads_little() -> None:
    """Help, settings and lists are there in the half second that Hydra and pydantic take: nothing heavy is loaded."""
    done = python("-c", AT_A_PROMPT)

    assert (0, "\n", "") == (done.returncode, done.stdout, done.stderr)


def test_a_shell_completes_runs_plans_and_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the package argcomplete, whose place is taken here; without it nothing happens."""
    monkeypatch.chdir(ROOT)
    top, each = parsers()
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    complete(top, each)
    asked: list[object] = []
    monkeypatch.setitem(sys.modules, "argcomplete", SimpleNamespace(autocomplete=asked.append))
    complete(top, each)
    actions = ((verb, action) for verb, parser in each.items() for action in parser._actions)
    words = {(verb, action.dest): action.completer for verb, action in actions if hasattr(action, "completer")}

    assert [top] == asked
    assert "digits_mpl" in words["run", "against"]()
    assert "method.feedback=" in words["show", "overrides"](Namespace(run="digits_mpl"))
    assert "cifar10_4k" in words["prepare", "plan"]()
    assert {"cifar10_4k", "digits_mpl"} < set(words["plan", "what"]())


def test_a_verb_finds_its_function() -> None:
    """Those of modules that are imported only when they are called, which no type checker sees."""
    places = [
        found.args for parser in parsers()[1].values() if isinstance(found := parser.get_default("command"), partial)
    ]

    assert ("jobs", "status") in places
    for module, name in places:
        function = getattr(importlib.import_module(f"repro.{module}"), name)
        assert ["argparse.Namespace"] == [one.annotation for one in inspect.signature(function).parameters.values()]


@pytest.mark.slow
def test_the_chain_from_plan_to_report(workplace: Path) -> None:
    """prepare, train, evaluate, verify, report and verdicts leave a record that reads back, and judge what is there."""
    planned(workplace, SHORT)

    said = [ran(workplace, *words) for words in (TRAIN, ["evaluate"], ["verify"], ["report"], ["verdicts"])]

    assert {"0-1": [0, 1], "2-3": [2, 3]} == {
        name.removeprefix("seeds-"): seeds
        for name, seeds in read_runs(workplace / "results/runs")[RUN].groups().items()
    }
    assert "NOT RUN" in said[-1]
    assert (workplace / "results/REPORT.md").is_file()
    assert "finished already" in call(workplace, *TRAIN).stdout


@pytest.mark.slow
def test_a_killed_worker_is_reported_with_the_remedy(workplace: Path) -> None:
    """When the system kills a worker, as it does when memory runs out, one sentence says so."""
    planned(workplace, LONG)

    training = started(workplace, "-m", "repro", *TRAIN, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    children = Path(f"/proc/{training.pid}/task/{training.pid}/children")
    workers = wait_until(lambda: found if len(found := children.read_text().split()) > 1 else [])
    os.kill(int(workers[0]), signal.SIGKILL)
    _, complaint = training.communicate(timeout=100)

    assert training.returncode == 2
    assert "lower budget.workers" in complaint


@pytest.mark.slow
def _seed_0_becomes_nan() -> None:
    trainer = job.Trainer

    def failing(config: Any, seeds: Any, *rest: Any) -> Any:
        if seeds == 0:
            raise NotFinite("loss = nan")
        return trainer(config, seeds, *rest)

    job.Trainer = failing  # type: ignore[assignment,misc]


def test_one_bad_seed_stops_no_other(workplace: Path) -> None:
    """Of its run or of the plan's other runs; it is said at once and at the end."""
    plan = {"overrides": [*SHORT, "budget.stack=1", "budget.workers=1"],
            "runs": {RUN: {"seeds": "0-1"}, "moons_tuned_supervised": {"seeds": "1"}}}  # fmt: skip
    (workplace / "small.yaml").write_text(yaml.safe_dump(plan))

    done = call(workplace, "run", "small.yaml", spoil=_seed_0_becomes_nan)

    assert (2, "error: loss = nan\n") == (done.returncode, done.stderr)
    assert f"{RUN} seed-0 failed: loss = nan; the others go on" in done.stdout
    assert (workplace / "state" / RUN / "seed-1/result.pt").is_file()
    assert (workplace / "artifacts/runs/moons_tuned_supervised/seed-1/result.pt").is_file()


def test_damaged_weights_are_refused_and_trained_anew(workplace: Path) -> None:
    """Evaluation names the remedy; training makes the same weights again."""
    planned(workplace, SHORT)
    ran(workplace, *TRAIN)
    finished = outcome(workplace, RUN)
    damaged = workplace / "artifacts/runs" / RUN / "seeds-0-1/snapshots-0001.pt"
    damaged.write_bytes(damaged.read_bytes()[:-5])

    evaluated, mended = call(workplace, "evaluate"), call(workplace, *TRAIN)

    assert (2, 0) == (evaluated.returncode, mended.returncode)
    assert f"train it again: dvc repro --force --single-item train@{RUN}" in evaluated.stderr
    assert "finished already" not in mended.stdout
    assert finished == outcome(workplace, RUN)


@pytest.mark.slow
def test_a_spent_time_budget_has_its_own_status_and_the_state_is_kept(workplace: Path) -> None:
    """75, and how to go on. Another stack or setting is refused before any work; nothing of the state is removed."""
    planned(workplace, TOO_LONG)
    done = call(workplace, *TRAIN)
    assert done.returncode == 75
    assert "run again to go on" in done.stdout

    path = workplace / f"artifacts/configs/{RUN}.yaml"
    config = yaml.safe_load(path.read_text())
    refused = []
    for budget in ({"stack": 4}, {"log_every": 7}):
        path.write_text(yaml.safe_dump(config | {"budget": config["budget"] | budget}))
        refused.append(call(workplace, *TRAIN))

    assert [2, 2] == [done.returncode for done in refused]
    assert "holds seeds-0-1" in refused[0].stderr
    assert "budget.log_every = " in refused[1].stderr
    assert all(f"start anew: rm -r state/{RUN}\n" in done.stderr for done in refused)
    assert list((workplace / "state" / RUN).glob("seeds-0-1/checkpoint-*.pt"))


@pytest.mark.slow
def test_what_was_not_prepared_or_trained_is_refused(workplace: Path) -> None:
    """Each time with the command to run: no configuration, other seeds, other data, no weights."""
    unprepared = call(workplace, *TRAIN)
    planned(workplace, SHORT)
    untrained, seeds = call(workplace, "evaluate"), call(workplace, "train", RUN, "--seeds", "0-2")
    path = workplace / f"artifacts/configs/{RUN}.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"data_hash": "0"}))
    data = call(workplace, *TRAIN)

    assert [2] * 4 == [done.returncode for done in (unprepared, untrained, seeds, data)]
    assert "repro prepare" in unprepared.stderr
    assert f"dvc repro train@{RUN}" in untrained.stderr
    assert "seeds 0-2 are not the planned 0,1,2,3, of which 2,3 train as one; name those, or" in seeds.stderr
    assert "not the prepared ones" in data.stderr
