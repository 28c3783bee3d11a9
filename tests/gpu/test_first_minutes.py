"""What experiments/gpu asks of a GPU, rehearsed on a CPU: its checks find nothing there, and its plans train."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from repro.augment.views import RandAugment
from repro.data.cifar10 import Cifar10
from repro.plan import compose, read_plan
from repro.train.loop import Trainer

PROJECT = Path(__file__).parents[2]
SMALL = ["model.depth=10", "model.width=1", "budget.labelled_batch=4", "budget.unlabelled_batch=4"]
PLANS = PROJECT / "experiments/plan"
PLANNED = [run for plan in ("gpu_canary", "gpu_arms") for run in read_plan(PLANS / f"{plan}.yaml").runs]


def check(name: str = "check") -> Any:
    """The script."""
    spec = importlib.util.spec_from_file_location(f"gpu_{name}", PROJECT / f"experiments/gpu/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _images(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script puts random images there."""
    monkeypatch.setattr(Cifar10, "read", Cifar10.read)


def found(workplace: Path) -> dict[str, Any]:
    """By what was looked at."""
    record = json.loads((workplace / "results/gpu/right.json").read_text())
    assert record["environment"].keys() >= {"device_name", "torch", "revision", "clean"}
    return {one["what"]: one for one in record["found"]}


def test_a_cpu_is_right(workplace: Path) -> None:
    """Nothing differs between a CPU and itself."""
    assert check().main(["right", *SMALL]) == 0
    assert [0] * 12 == [
        one.get("bytes_that_differ", one.get("tensors_that_differ")) for one in found(workplace).values()
    ]


def test_what_is_wrong_is_found(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Views of which one byte differs from call to call, and a second training with another batch: both are said."""
    script, calls, weak = check(), list[int](), RandAugment.weak

    def other(self: RandAugment, images: Tensor, step: int) -> Tensor:
        seen = weak(self, images, step)
        seen[0, 0, 0, 0] = (calls.append(0), len(calls) % 2)[1]
        return seen

    def trainer(config: Any, device: torch.device, record: Any = None, at: int | None = None) -> Trainer:
        made = Trainer(config, 0, device)
        made.state.step = config.budget.steps // 2 + (calls.append(1), len(calls))[1]
        return made

    monkeypatch.setattr(RandAugment, "weak", other)
    monkeypatch.setattr(script, "trainer", trainer)
    assert script.main(["right", *SMALL]) == 1
    assert [False] * 12 == [one["right"] for one in found(workplace).values()]


@pytest.mark.parametrize("planned", PLANNED, ids=lambda planned: planned.name)
def test_planned_runs_take_two_steps(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the size as planned: a row of the log every 50 steps; the first network learns, since a student waits."""
    pixels = torch.zeros(50_000, 3, 32, 32, dtype=torch.uint8)
    monkeypatch.setattr(Cifar10, "read", lambda *_: (pixels, torch.arange(50_000) % 10))
    config = compose(planned.name, planned.overrides)
    assert config.budget.log_every == 50

    trainer = Trainer(
        compose(planned.name, [*planned.overrides, *SMALL, "engine.precision=float32"]), 0, torch.device("cpu")
    )
    before = trainer.state.learners[config.method.networks[0]].parameters[0].clone()
    for _ in range(2):
        trainer.advance()

    assert trainer.state.step == 2
    assert not torch.equal(before, trainer.state.learners[config.method.networks[0]].parameters[0])


def test_the_page_says_what_the_records_say() -> None:
    """The recorded page is that of the records; of a small one each cell is known."""
    page = check("page").page
    right, times = (json.loads((PROJECT / f"results/gpu/{name}.json").read_text()) for name in ("right", "times"))
    assert (PROJECT / "results/gpu/README.md").read_text() == page(right, times)

    where = {"device_name": "Card", "torch": "2", "finished": "2026-01-02T", "revision": "a" * 40}
    found = [{"what": "views", "right": True, "bytes_that_differ": 0},
             {"what": "steps", "right": True, "off": {"teacher": 2e-9, "student": 3e-10}, "tolerance": 1e-8},
             {"what": "twice", "right": False, "off": {"teacher": 0.25}, "tolerance": 0.0}]  # fmt: skip
    longest = [["batch_norm_collect", 3, 4.0], ["batchnorm_bwtr", 1, 1.0], ["sm90_xmma_wgrad", 2, 2.5],
               ["Memset", 9, 0.5], ["nchwToNhwcKernel", 1, 0.25], ["leaky_relu", 1, 0.75], ["new", 1, 0.5]]  # fmt: skip
    shares = {"of_the_matrix_product": 0.256, "of_the_copy": 0.5, "reserved_mib": 1234}
    steps = [{"what": "paper: taken", "ms": 12.34} | shares,
             {"what": "paper: three", "ms": 20.0},
             {"what": "paper: kernels", "kernels": 1234.4, "ms": 11.0, "longest": longest}]  # fmt: skip
    ceilings = {"flops": {"bfloat16": 7e14}, "bytes": 4.2e12}
    text = page({"environment": where, "found": found}, {"environment": where, "found": steps, "ceilings": ceilings})
    rows = [line for line in text.splitlines() if line.startswith("| ")]

    assert "2 of 3 checks hold" in text
    assert "700 TFLOP/s in bfloat16, copies at 4.2 TB/s" in text
    assert {"| views | yes | 0 bytes | 0 |", "| steps | yes | 2e-09 | 1e-08 |", "| twice | no | 0.2 | 0 |",
            "| paper: taken | 12.3 | 26 % | 50 % | 1,234 |", "| paper: three | 20.0 | – | – | – |",
            "| paper | 1,234 | 11.0 | 5.0 | 0.2 | 2.5 | 0.5 | 0.8 | 2.0 |"} <= set(rows)  # fmt: skip
