"""What a plan will take: counted over phases and turns as a run is, and as much as a run does take."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import pytest
import torch
import yaml
from repro.train.memory import bytes_needed

from repro.cost import Probe, cost_of, passes_of_evaluation, phases, timed_steps
from repro.data import source_of
from repro.evaluate.evaluate import evaluate
from repro.evaluate.predict import Predictor
from repro.plan import compose
from repro.train.checkpoint import load_results
from tests.entry_points import call
from tests.tiny import CPU

PROJECT = Path(__file__).parents[1]
ROOT = PROJECT / "experiments"
SMALL = ["budget.steps=40", "budget.snapshots=3", "model.width=16", "budget.log_every=10"]


def test_the_first_steps_count_once_and_the_others_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens once in a run is in its first steps; no further step is begun when the time is over."""
    now = [0.0]
    monkeypatch.setattr(probe.time, "perf_counter", lambda: now[0])
    lengths = iter([50.0, 3.0, *[1.0] * 100])

    def step() -> None:
        now[0] += next(lengths)

    assert (53.0, [1.0] * 7, 7) == timed_steps(step, 100, 60.0, CPU)
    assert (2.0, [1.0] * 3, 3) == timed_steps(step, 5, 60.0, CPU)
    assert (1.0, [1.0], 1) == timed_steps(step, 1, 60.0, CPU)
    assert (2.0, [1.0], 1) == timed_steps(step, 100, 0.0, CPU)  # one is timed in any case
    assert (5.0, [1.0] * 4, 4) == timed_steps(step, 9, 60.0, CPU, warm=5)


def test_a_gpu_is_waited_for_after_some_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the host gives ahead counts as it does in training; the time is that of one step."""
    waited: list[int] = []
    steps: list[int] = []
    for module in (clock, probe):
        monkeypatch.setattr(module.time, "perf_counter", lambda: float(len(steps)))
    monkeypatch.setattr(clock, "finish", lambda _: waited.append(len(steps)))

    assert (2.0, [1.0, 1.0, 1.0], 23) == timed_steps(lambda: steps.append(1), 25, 60.0, torch.device("cuda"))
    assert waited == [0, 1, 1, 2, 2, 12, 12, 22, 22, 25]


def test_a_fixed_teacher_and_its_student_are_phases() -> None:
    """Each is timed for itself."""
    assert [(0, 300), (300, 900)] == phases(compose("digits_pseudo_label", ["method.teacher_steps=300"], ROOT))
    assert [(0, 600)] == phases(compose("digits_mpl", [], ROOT))


def test_seeds_that_do_not_train_side_by_side_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five seeds by two workers are three turns, and five evaluations by one process; weights and checkpoints stay."""
    one = Probe(steps=9, training=100.0, evaluation=20.0, peak_bytes=7, state_bytes=50, kept_bytes=30)
    asked = []

    class Pool:
        def __init__(self, count: int, _: object) -> None:
            asked.append(count)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        map = staticmethod(lambda _, configs, *__: [one] * len(configs))

    monkeypatch.setattr(probe, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(probe, "worker_pool", lambda wanted: (wanted, None))
    config = compose("digits_mpl", ["budget.workers=2"], ROOT)
    cost = cost_of(config, [0, 1, 2, 3, 4], 1.0)

    assert [2] == asked
    assert (3, 300.0, 100.0) == (cost.turns, cost.training, cost.evaluation)
    assert 2 * bytes_needed(config) == cost.peak_bytes  # more than the 7 that the steps took
    assert (5 * 30 + 5 * 20 + 2 * 10, 5 * 30) == (cost.disk_bytes, cost.kept_bytes)


def test_durations_are_in_the_unit_a_person_would_choose() -> None:
    """Seconds, minutes, hours, days."""
    assert ["42 s", "2 min", "1.7 h", "3.1 days"] == [plan.duration(s) for s in (42, 119, 6000, 270_000)]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small run of MPL on digits, trained."""
    (tmp_path / "experiments").symlink_to(ROOT)
    runs = {"small": {"experiment": "digits_mpl", "overrides": [*SMALL, "finetune.steps=3"], "seeds": "0"}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"runs": runs}))
    for stage in (["prepare"], ["train", "small", "--seeds", "0"]):
        done = call(tmp_path, *stage)
        assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_evaluation_and_disk_are_what_a_run_takes(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example that passes a network in the evaluation is counted; files are as large as was said, and headers."""
    (result,) = load_results(trained / "artifacts/runs/small")
    passed = []
    inputs = Predictor._passes

    def counting(self: Predictor, networks: dict[str, object], examples: object) -> object:
        passed.append(len(networks) * len(examples))  # type: ignore[arg-type]
        return inputs(self, networks, examples)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "_passes", counting)
    evaluate("small", result)
    config = compose("digits_mpl", [*SMALL, "finetune.steps=3"], ROOT)
    networks = len(next(iter(result.snapshots))["networks"])
    unlabelled = len(source_of(config.data).training_set(0).unlabelled)

    assert sum(passed) == passes_of_evaluation(config, 0, networks, unlabelled)
    kept = cost_of(config, [0], 0.1).kept_bytes
    on_disk = sum(path.stat().st_size for path in (trained / "artifacts/runs/small").rglob("*.pt"))
    assert 0.7 * on_disk < kept < on_disk
