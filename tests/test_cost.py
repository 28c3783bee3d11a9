"""What a plan will take: some steps stand for all, over phases and turns as a run has them; and what it does take."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from repro import cost
from repro.cost import Cost, cost_of, cost_of_all, phases, planned, seconds_of_phase
from repro.data.toys import Digits
from repro.engine import device as engine_device
from repro.plan import compose
from repro.train.prepare import with_prepared_data
from tests.entry_points import trained
from tests.tiny import CPU

ROOT = Path(__file__).parents[1] / "experiments"
DIGITS = ["budget.steps=40", "budget.snapshots=3", "model.width=16", "budget.log_every=10"]


def test_the_first_steps_count_once_and_some_others_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens once in a run is in its first steps; no further step is begun when the time is over."""
    now = [0.0]
    monkeypatch.setattr(engine_device.time, "perf_counter", lambda: now[0])
    lengths = iter([50.0, 3.0, *[1.0] * 6, 5.0, 9.0, *[2.0] * 100])

    def step() -> None:
        now[0] += next(lengths)

    assert 53.0 + 998 * 1.0 == seconds_of_phase(step, 1000, 64.0, CPU)  # 6 steps of 1 s and one of 5 s
    assert 9.0 + 2.0 + 3 * 2.0 == seconds_of_phase(step, 5, 60.0, CPU)
    assert 2.0 == seconds_of_phase(step, 1, 60.0, CPU)
    assert 2 * 2.0 + 98 * 2.0 == seconds_of_phase(step, 100, 0.0, CPU)  # one is timed in any case


def test_a_gpu_is_waited_for_after_some_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the host gives ahead counts as it does in training; the time is that of one step."""
    waited: list[int] = []
    steps: list[int] = []
    monkeypatch.setattr(engine_device.time, "perf_counter", lambda: float(len(steps)))
    monkeypatch.setattr(engine_device, "finish", lambda _: waited.append(len(steps)))

    assert 25.0 == seconds_of_phase(lambda: steps.append(1), 25, 60.0, torch.device("cuda"))
    assert waited == [0, 1, 1, 2, 2, 12, 12, 22, 22, 25]


def test_a_fixed_teacher_and_its_student_are_phases() -> None:
    """Each is timed for itself."""
    assert [(0, 300), (300, 900)] == phases(compose("digits_pseudo_label", ["method.teacher_steps=300"], ROOT))
    assert [(0, 600)] == phases(compose("digits_mpl", [], ROOT))


def test_seeds_that_do_not_train_side_by_side_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five seeds by two workers are three turns; weights and checkpoints stay."""
    one = Cost(step=0.5, training=100.0, peak_bytes=7, disk_bytes=50, kept_bytes=30)
    asked = []
    pool = SimpleNamespace(map=lambda _, configs, *__: [one] * len(configs))
    monkeypatch.setattr(cost, "ProcessPoolExecutor", lambda count, _: nullcontext(asked.append(count) or pool))
    monkeypatch.setattr(cost, "worker_pool", lambda wanted: (wanted, None))
    config = compose("digits_mpl", ["budget.workers=2"], ROOT)
    found = cost_of(config, [0, 1, 2, 3, 4], 1.0)

    assert [2] == asked
    assert Cost(0.5, 300.0, 2 * 7, disk_bytes=5 * 30 + 5 * 20 + 2 * 10, kept_bytes=5 * 30) == found


def test_runs_train_one_after_another_and_what_they_keep_adds_up() -> None:
    """Of what is removed when a run is done, the most counts."""
    found = cost_of_all([Cost(1.0, 100.0, 7, 50, 30), Cost(1.0, 50.0, 9, 35, 30)])

    assert (150.0, 9, 60 + 20) == (found.training, found.peak_bytes, found.disk_bytes)


def test_a_plan_is_named_and_so_are_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan has its own seeds, a run that is named has one."""
    monkeypatch.chdir(ROOT.parent)

    assert planned(["digits"]) == planned(["experiments/plan/digits.yaml"])
    assert [(0,), (0,)] == [run.seeds for run in planned(["digits_mpl", "digits_uda"]).runs]


def test_seeds_that_wait_for_a_device_take_turns() -> None:
    """Twelve of ten hours on eight devices: two turns; the long one that comes last is not cut."""
    assert [120.0, 20.0, 10.0] == [cost.last_end([10.0] * 12, devices) for devices in (1, 8, 64)]
    assert 2.0 + 9.0 == cost.last_end([2.0, 2.0, 9.0], 2)


def test_hours_of_gpus_where_there_is_none_are_those_of_a_timed_one(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A million steps of 36 ms are ten hours; one of another method or batch, or without feedback, has none."""
    monkeypatch.setattr(cost, "choose_device", lambda: CPU)
    runs = {"cifar10_paper_mpl": 12, "cifar10_paper_mpl_no_feedback": 1, "cifar10_paper_uda": 1,
            "cifar10_paper_mpl_reversed": 1}  # fmt: skip
    plan: dict[str, Any] = {"overrides": ["engine.cuda_graph=true"], "runs": {run: {"seeds": "0-11"} for run in runs}}
    plan["runs"]["cifar10_paper_mpl_reversed"]["overrides"] = ["budget.unlabelled_batch=256"]
    (workplace / "p.yaml").write_text(yaml.safe_dump(plan))
    cost.hours(Path("p.yaml"), runs, gpus=True)
    assert "estimate" not in capsys.readouterr().out  # nothing was timed

    cost.TIMES.parent.mkdir(parents=True)
    rows = [{"what": "paper: taken", "ms": 99.0}, {"what": "paper: recorded", "ms": 36.0}, {"what": "paper: kernels"}]
    cost.TIMES.write_text(json.dumps({"environment": {"device_name": "GPU X"}, "found": rows}))
    cost.hours(Path("p.yaml"), runs, gpus=True)
    said = capsys.readouterr().out

    assert "cifar10_paper_mpl: 12 seeds of 1,000,000 steps of 36.0 ms\n" in said
    assert [f"{run}: nothing like its step was timed on a GPU" in said for run in runs] == [False, True, True, True]
    assert said.endswith("An estimate, from results/gpu/times.json, without finetuning and evaluation, on GPU X: 120.0 "
                         "device hours\n  on  1 at once: 5.0 days\n  on  8 at once: 20.0 h\n  on 64 at once: 10.0 h\n"
                         )  # fmt: skip


def test_disk_is_what_a_run_takes(workplace: Path) -> None:
    """Files are as large as was said, and headers."""
    trained(workplace, {"digits_mpl": {"overrides": [*DIGITS, "finetune.steps=3"], "seeds": "0"}})
    kept = cost_of(compose("digits_mpl", [*DIGITS, "finetune.steps=3"], ROOT), [0], 0.1).kept_bytes
    on_disk = sum(path.stat().st_size for path in (workplace / "artifacts/runs/digits_mpl").rglob("*.pt"))

    assert 0.7 * on_disk < kept < on_disk


def test_runs_of_a_plan_prepare_their_data_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a folder of images is looked through, and told of, before each row."""
    seen, prepared = [], set[tuple[str, ...]]()
    monkeypatch.setattr(Digits, "prepare", lambda self: seen.append(self.key))

    for _ in range(2):
        with_prepared_data([compose("digits_mpl"), compose("digits_uda")], prepared)

    assert 1 == len(seen)
