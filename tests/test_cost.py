"""What a plan will take: arithmetic counted, steps timed over phases and turns as a run is, and what it does take."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Self

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from repro import cost
from repro.bench import measure
from repro.config import Config
from repro.cost import (
    EXIT_NEEDS_GPU,
    Probe,
    cost_of,
    passes_of_evaluation,
    phases,
    priced,
    run_flops,
    step_flops,
    timed_steps,
)
from repro.data import source_of
from repro.evaluate.evaluate import evaluate
from repro.evaluate.predict import Predictor
from repro.models.networks import build_model
from repro.plan import compose
from repro.seeding import Streams
from repro.train.checkpoint import load_results
from tests.entry_points import call
from tests.tiny import CPU

ROOT = Path(__file__).parents[1] / "experiments"
DIGITS = ["budget.steps=40", "budget.snapshots=3", "model.width=16", "budget.log_every=10"]
SMALL = ["model.depth=10", "model.width=1"]


def forward_and_stem(config: Config) -> tuple[float, float]:
    """Operations of one image's forward pass, and of its first convolution, whose input needs no gradient."""
    model = build_model(config.model, 10, Streams(0), "student").eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 32, 32))
    return float(counter.get_total_flops()), 2.0 * 27 * 16 * 32 * 32


@pytest.mark.parametrize(
    ("name", "forward_only", "trained"),
    [
        ("cifar10_released_supervised", 0, 128),
        ("cifar10_released_uda", 0, 128 + 2 * 896),
        ("cifar10_released_fixmatch", 0, 128 + 2 * 896),
        # teacher on labelled, weak and strong; student on strong; labelled loss before and after without gradients
        ("cifar10_released_mpl", 2 * 128, 128 + 2 * 896 + 896),
        # the labelled images in the student's joint pass too, and the loss alone before and after
        ("cifar10_released_mpl_released", 2 * 128, 128 + 2 * 896 + 896 + 128),
        ("cifar10_released_mpl_dot_product", 0, 128 + 2 * 896 + 896 + 128),
    ],
)
def test_arithmetic_is_that_of_the_passes(name: str, forward_only: int, trained: int) -> None:
    """A trained image costs three forward passes less the stem's input gradient; nothing is computed twice."""
    config = compose(name, SMALL, ROOT)
    forward, stem = forward_and_stem(config)

    assert step_flops(config, 299_999) == pytest.approx(
        forward_only * forward + trained * (3 * forward - stem), rel=1e-9
    )


def test_a_fixed_teacher_and_its_student_are_priced_apart() -> None:
    """Half of the steps train the teacher on labelled images, half the student on both, labelled by the teacher."""
    config = compose("cifar10_released_pseudo_label", SMALL, ROOT)
    forward, stem = forward_and_stem(config)
    teaching, learning = 128 * (3 * forward - stem), (128 + 896) * (3 * forward - stem) + 896 * forward

    assert run_flops(config) == pytest.approx(300_000 * (teaching + learning), rel=1e-9)


def test_arithmetic_of_the_paper_s_network() -> None:
    """WideResNet-28-2 takes 0.44 GFLOP for a forward pass of one image, multiplications and additions counted apart."""
    forward, _ = forward_and_stem(compose("cifar10_released_mpl", root=ROOT))

    assert pytest.approx(forward, rel=0.01) == 0.44e9


def test_a_plan_that_needs_a_gpu_is_priced_instead_of_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 3, the cost of each run, and what to do; without `needs: gpu` nothing is said and all is well."""
    monkeypatch.setattr(cost, "compose", lambda name, overrides: compose(name, [*overrides, *SMALL], ROOT))
    monkeypatch.setattr(cost, "choose_device", lambda: torch.device("cpu"))
    for needs, status in (("needs: gpu\n", EXIT_NEEDS_GPU), ("", 0)):
        plan = tmp_path / "big.yaml"
        plan.write_text(f"{needs}runs:\n  cifar10_paper_mpl: {{seeds: 0-2}}\n")
        assert status == priced(Namespace(what=[str(plan)], if_refused=True))
        said = capsys.readouterr().out
        assert bool(needs) == ("cifar10_paper_mpl" in said)
        assert bool(needs) == ("Plan big needs a GPU" in said)


def test_the_first_steps_count_once_and_the_others_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens once in a run is in its first steps; no further step is begun when the time is over."""
    now = [0.0]
    monkeypatch.setattr(cost.time, "perf_counter", lambda: now[0])
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
    for module in (measure, cost):
        monkeypatch.setattr(module.time, "perf_counter", lambda: float(len(steps)))
    monkeypatch.setattr(measure, "finish", lambda _: waited.append(len(steps)))

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

    monkeypatch.setattr(cost, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(cost, "worker_pool", lambda wanted: (wanted, None))
    config = compose("digits_mpl", ["budget.workers=2"], ROOT)
    found = cost_of(config, [0, 1, 2, 3, 4], 1.0)

    assert [2] == asked
    assert (3, 300.0, 100.0) == (found.turns, found.training, found.evaluation)
    assert 2 * 7 == found.peak_bytes
    assert (5 * 30 + 5 * 20 + 2 * 10, 5 * 30) == (found.disk_bytes, found.kept_bytes)


def test_durations_are_in_the_unit_a_person_would_choose() -> None:
    """Seconds, minutes, hours, days."""
    assert ["42 s", "2 min", "1.7 h", "3.1 days"] == [cost.duration(s) for s in (42, 119, 6000, 270_000)]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small run of MPL on digits, trained."""
    (tmp_path / "experiments").symlink_to(ROOT)
    runs = {"digits_mpl": {"overrides": [*DIGITS, "finetune.steps=3"], "seeds": "0"}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"runs": runs}))
    for stage in (["prepare"], ["train", "digits_mpl", "--seeds", "0"]):
        done = call(tmp_path, *stage)
        assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_evaluation_and_disk_are_what_a_run_takes(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example that passes a network in the evaluation is counted; files are as large as was said, and headers."""
    (result,) = load_results(trained / "artifacts/runs/digits_mpl")
    passed = []
    inputs = Predictor._passes

    def counting(self: Predictor, networks: dict[str, object], examples: object) -> object:
        passed.append(len(networks) * len(examples))  # type: ignore[arg-type]
        return inputs(self, networks, examples)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "_passes", counting)
    evaluate("digits_mpl", result)
    config = compose("digits_mpl", [*DIGITS, "finetune.steps=3"], ROOT)
    networks = len(next(iter(result.snapshots))["networks"])
    unlabelled = len(source_of(config.data).training_set(0).unlabelled)

    assert sum(passed) == passes_of_evaluation(config, 0, networks, unlabelled)
    kept = cost_of(config, [0], 0.1).kept_bytes
    on_disk = sum(path.stat().st_size for path in (trained / "artifacts/runs/digits_mpl").rglob("*.pt"))
    assert 0.7 * on_disk < kept < on_disk
