"""The entry points as a user meets them: exit codes, one sentence for each mistake, kill and resume."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from repro.records.runs import read_runs
from repro.train.checkpoint import load_results
from tests.entry_points import call

ROOT = Path(__file__).parent.parent
PLAN = {
    "runs": {
        "tiny_mpl": {
            "experiment": "moons_tuned_mpl",
            "overrides": ["budget.steps=400", "budget.stack=2", "budget.log_every=30", "budget.snapshots=3"],
            "seeds": "0-3",
        }
    }
}


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with the project's experiments and a tiny plan, in which the entry points run."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PLAN))
    (tmp_path / "README.md").write_text((ROOT / "README.md").read_text())
    return tmp_path


def start_training(workplace: Path) -> subprocess.Popen[bytes]:
    """Training of the tiny plan in the background."""
    return subprocess.Popen(
        [sys.executable, "-m", "repro.train.launch", "tiny_mpl", "--seeds", "0-3"],
        cwd=workplace, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def weights(workplace: Path) -> list[dict[str, list[float]]]:
    """Final weights of every network of every chunk."""
    results = load_results(workplace / "artifacts/runs/tiny_mpl")
    return [
        {f"{name}.{key}": value.flatten().tolist() for name, state in last.items() for key, value in state.items()}
        for last in (list(result.snapshots)[-1]["networks"] for result in results)
    ]


def shell(workplace: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m repro.cli.<arguments>` in the workplace: a Python of its own, as a stage of the pipeline has."""
    return subprocess.run(  # noqa: S603 - our own entry points
        [sys.executable, "-W", "error", "-W", "ignore:`torch.jit", "-m", f"repro.cli.{arguments[0]}", *arguments[1:]],
        cwd=workplace, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_the_chain_from_plan_to_report(workplace: Path) -> None:
    """prepare, train, evaluate, verify and report leave a record that reads back, and judge what is there."""
    stages = [["prepare"], ["train", "tiny_mpl", "--seeds", "0-3"], ["evaluate"], ["verify"], ["report"], ["verdicts"]]

    calls = [shell(workplace, *stage) for stage in stages]

    assert [(0, "")] * len(stages) == [(done.returncode, done.stderr) for done in calls]
    runs = read_runs(workplace / "results/runs")["tiny_mpl"]
    assert [[0, 1], [2, 3]] == [run.seeds for run in runs]
    assert "NOT RUN" in calls[-1].stdout
    assert (workplace / "results/REPORT.md").is_file()


@pytest.mark.slow
def test_training_killed_and_started_again_gives_the_same_weights(workplace: Path) -> None:
    """A run whose processes are all killed goes on from its saved state, bit for bit."""
    plan = workplace / "params.yaml"
    slow = PLAN["runs"]["tiny_mpl"] | {
        "overrides": [*PLAN["runs"]["tiny_mpl"]["overrides"], "budget.checkpoint_minutes=0"]
    }
    plan.write_text(yaml.safe_dump({"runs": {"tiny_mpl": slow}}))
    assert call(workplace, "prepare").returncode == 0
    assert call(workplace, "train", "tiny_mpl", "--seeds", "0-3").returncode == 0
    uninterrupted = weights(workplace)
    shutil.rmtree(workplace / "artifacts/runs/tiny_mpl")

    training = start_training(workplace)
    deadline = time.monotonic() + 60
    while not list((workplace / "state").rglob("checkpoint-*.pt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    training.kill()
    training.communicate()
    saved = list((workplace / "state").rglob("checkpoint-*.pt"))
    again = call(workplace, "train", "tiny_mpl", "--seeds", "0-3")

    assert saved
    assert again.returncode == 0, again.stderr
    assert uninterrupted == weights(workplace)
    assert not (workplace / "state/tiny_mpl").exists()


@pytest.mark.slow
def test_a_killed_worker_is_reported_with_the_remedy(workplace: Path) -> None:
    """When the system kills a worker, as it does when memory runs out, one sentence says so."""
    run = PLAN["runs"]["tiny_mpl"] | {"overrides": ["budget.steps=100000", "budget.stack=2"]}
    (workplace / "params.yaml").write_text(yaml.safe_dump({"runs": {"tiny_mpl": run}}))
    assert call(workplace, "prepare").returncode == 0

    training = start_training(workplace)
    children = Path(f"/proc/{training.pid}/task/{training.pid}/children")
    deadline = time.monotonic() + 60
    while len(children.read_text().split()) < 2 and time.monotonic() < deadline:  # a single one may be another's
        time.sleep(0.02)
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    _, complaint = training.communicate(timeout=60)

    assert training.returncode == 2
    assert b"lower budget.workers" in complaint


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(workplace: Path) -> None:
    """A pipeline that was killed before it noted the end finds the weights; damaged or other ones are trained anew."""
    assert call(workplace, "prepare").returncode == 0
    first = call(workplace, "train", "tiny_mpl", "--seeds", "0-3")
    finished = weights(workplace)
    again = call(workplace, "train", "tiny_mpl", "--seeds", "0-3")
    damaged = workplace / "artifacts/runs/tiny_mpl/seeds-0-1/snapshots-0001.pt"
    damaged.write_bytes(damaged.read_bytes()[:-5])
    evaluated = call(workplace, "evaluate")
    mended = call(workplace, "train", "tiny_mpl", "--seeds", "0-3")

    assert [0, 0, 2, 0] == [done.returncode for done in (first, again, evaluated, mended)]
    assert "finished already" in again.stdout
    assert "train it again: dvc repro --force --single-item train@tiny_mpl" in evaluated.stderr
    assert "finished already" not in mended.stdout
    assert finished == weights(workplace)


@pytest.mark.slow
def test_another_stack_or_setting_does_not_throw_a_state_away(workplace: Path) -> None:
    """What is left of a run is looked at before any work, all of it, and nothing of it is removed."""
    run = PLAN["runs"]["tiny_mpl"] | {
        "overrides": ["budget.steps=100000", "budget.max_minutes=0.005", "budget.stack=2"]
    }
    (workplace / "params.yaml").write_text(yaml.safe_dump({"runs": {"tiny_mpl": run}}))
    assert call(workplace, "prepare").returncode == 0
    assert call(workplace, "train", "tiny_mpl", "--seeds", "0-3").returncode == 75
    path = workplace / "artifacts/configs/tiny_mpl.yaml"
    config = yaml.safe_load(path.read_text())
    refused = []
    for budget in ({"stack": 4}, {"log_every": 7}):
        path.write_text(yaml.safe_dump(config | {"budget": config["budget"] | budget}))
        refused.append(call(workplace, "train", "tiny_mpl", "--seeds", "0-3"))

    assert [2, 2] == [done.returncode for done in refused]
    assert "holds seeds-0-1" in refused[0].stderr
    assert "budget.log_every = " in refused[1].stderr
    assert all("start anew: rm -r state/tiny_mpl\n" in done.stderr for done in refused)
    assert list((workplace / "state/tiny_mpl").glob("seeds-0-1/checkpoint-*.pt"))


@pytest.mark.slow
def test_a_spent_time_budget_exits_with_its_own_status(workplace: Path) -> None:
    """budget.max_minutes saves, says how to go on, and exits with 75."""
    run = PLAN["runs"]["tiny_mpl"] | {
        "overrides": ["budget.steps=100000", "budget.max_minutes=0.005", "budget.stack=2"]
    }
    (workplace / "params.yaml").write_text(yaml.safe_dump({"runs": {"tiny_mpl": run}}))
    assert call(workplace, "prepare").returncode == 0

    done = call(workplace, "train", "tiny_mpl", "--seeds", "0-3")

    assert done.returncode == 75
    assert "run again to go on" in done.stdout
    assert list((workplace / "state/tiny_mpl").glob("seeds-*/checkpoint-*.pt"))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"runs": {"x": {"experiment": "digits_mlp", "seeds": 0}}}, "did you mean 'digits_mpl'"),
        ({"runs": {"digits_mpl": {"sedes": 0}}}, "wants seeds"),
        ({"runs": {"digits_mpl": {"seeds": "5-1"}}}, "seeds = '5-1'"),
        (
            {"runs": {"digits_mpl": {"seeds": 0, "overrides": ["method.feedbak=none"]}}},
            "did you mean 'method.feedback'",
        ),
        (
            {"runs": {"digits_mpl": {"seeds": 0, "overrides": ["budget.steps=0"]}}},
            "budget.steps = 0: must lie in [1, 1,000,000,000]",
        ),
        ({"runz": {}}, "wants a mapping `runs:`"),
    ],
)
def test_prepare_refuses_a_wrong_plan_before_it_writes(workplace: Path, plan: object, message: str) -> None:
    """One sentence on stderr, exit status 2, nothing half-written."""
    (workplace / "params.yaml").write_text(yaml.safe_dump(plan))

    done = call(workplace, "prepare")

    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not (workplace / "artifacts").exists()


def test_a_missing_plan_names_the_command(workplace: Path) -> None:
    """Without params.yaml the user is told which plans there are and how to choose one."""
    (workplace / "params.yaml").unlink()

    done = call(workplace, "prepare")

    assert done.returncode == 2
    assert "make reproduce PLAN=" in done.stderr
    assert "quick" in done.stderr


def test_training_an_unprepared_run_names_the_remedy(workplace: Path) -> None:
    """A run without a configuration is not guessed at."""
    done = call(workplace, "train", "tiny_mpl", "--seeds", "0")

    assert done.returncode == 2
    assert "python -m repro.cli.prepare" in done.stderr


def test_training_refuses_data_that_were_not_prepared(workplace: Path) -> None:
    """The configuration names the planned seeds and pins the data by hash."""
    assert call(workplace, "prepare").returncode == 0

    done = call(workplace, "train", "tiny_mpl", "--seeds", "0-1")

    path = workplace / "artifacts/configs/tiny_mpl.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"data_hash": "0"}))
    other = call(workplace, "train", "tiny_mpl", "--seeds", "0-3")
    assert [2, 2] == [done.returncode, other.returncode]
    assert "seeds 0-1 are not the planned 0,1,2,3; name those, or change the plan" in done.stderr
    assert "not the prepared ones" in other.stderr


def test_evaluating_what_was_not_trained_names_the_remedy(workplace: Path) -> None:
    """No weights, no numbers."""
    done = call(workplace, "evaluate")

    assert done.returncode == 2
    assert "dvc repro train@tiny_mpl" in done.stderr


def test_a_results_folder_that_cannot_be_written_is_named(workplace: Path) -> None:
    """A file where results/ should be (as root, a read-only folder would not stop the write)."""
    (workplace / "results").write_text("in the way")

    done = call(workplace, "verify")

    assert done.returncode == 2
    assert "results" in done.stderr
    assert done.stderr.count("\n") == 1
