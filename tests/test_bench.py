"""The benchmark: the plain implementation is as much work as ours, bytes and parts are counted right, tables say so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from repro.bench import measure
from repro.bench.measure import AT_ONCE, BENCH, Parts, page, read_benches, section, write_bench
from repro.bench.plain import PlainTrainer, Traffic, network, step_flops
from repro.config import Config
from repro.models import WideResNet
from repro.models.networks import build_model
from repro.plan import compose
from repro.report.record import signed
from repro.seeding import Streams
from repro.train.loop import Trainer
from repro.verify.statistics import paired_difference
from tests.tiny import CPU

PROJECT = Path(__file__).parents[1]
SMALL = ["model.depth=10", "model.width=1", "budget.labelled_batch=4", "budget.unlabelled_batch=6",
         "data.train_images=600", "data.labels=60", "budget.shortened_to=20"]  # fmt: skip


@pytest.fixture
def config() -> Config:
    """MPL in the released setting, small."""
    return compose("cifar10_released_mpl", SMALL, PROJECT / "experiments")


def test_the_plain_network_is_as_much_work_as_ours() -> None:
    """As many weights and multiplications; else the two would not be compared at the same task."""
    settings = WideResNet(depth=16, width=2)
    models = [build_model(settings, 10, Streams(0), "student").eval(), network(settings).eval()]
    flops = []
    for model in models:
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(2, 3, 32, 32))
        flops.append(counter.get_total_flops())

    assert flops[0] == flops[1]
    assert 1 == len({sum(p.numel() for p in model.parameters()) for model in models})


def test_the_plain_trainer_trains(config: Config) -> None:
    """Student, teacher and average move in a step, all of them finite; the views are of the network's size."""
    images = torch.randint(0, 256, (24, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    trainer = PlainTrainer(config, images, torch.arange(24) % 10, steps=2, workers=0, device=CPU)
    networks = (trainer.teacher, trainer.student, trainer.average)
    before = [[p.detach().clone() for p in model.parameters()] for model in networks]

    trainer.advance()
    trainer.advance()

    for model, old in zip(networks, before, strict=True):
        moved = [float((p.detach() - q).abs().max()) for p, q in zip(model.parameters(), old, strict=True)]
        assert 0 < max(moved) < 1


def test_bytes_are_those_taken_and_given() -> None:
    """A sum reads two and writes one; a view moves nothing; what is changed in place is read and written."""
    a, b = torch.ones(100), torch.ones(100)

    def moved(call: object) -> int:
        with Traffic() as traffic:
            call()  # type: ignore[operator]
        return int(traffic.bytes)

    assert 1200 == moved(lambda: a + b)
    assert 0 == moved(lambda: a.view(10, 10).t()[2:])
    assert 1200 == moved(lambda: a.add_(b))
    assert 600 == moved(a.bfloat16)


def forward_and_stem(config: Config) -> tuple[float, float]:
    """Operations of one image's forward pass, and of its first convolution, whose input needs no gradient."""
    model = build_model(config.model, 10, Streams(0), "student").eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 32, 32))
    return float(counter.get_total_flops()), 2.0 * 27 * 16 * 32 * 32


@pytest.mark.parametrize(("name", "forward_only", "trained"), [
    ("cifar10_released_supervised", 0, 128),
    ("cifar10_released_uda", 0, 128 + 2 * 896),
    ("cifar10_released_fixmatch", 0, 128 + 2 * 896),
    # teacher on labelled, weak and strong; student on strong; labelled loss before and after without gradients
    ("cifar10_released_mpl", 2 * 128, 128 + 2 * 896 + 896),
    # the labelled images in the student's joint pass too, and the loss alone before and after
    ("cifar10_released_mpl_released", 2 * 128, 128 + 2 * 896 + 896 + 128),
    ("cifar10_released_mpl_dot_product", 0, 128 + 2 * 896 + 896 + 128),
])  # fmt: skip
def test_arithmetic_is_that_of_the_passes(name: str, forward_only: int, trained: int) -> None:
    """A trained image costs three forward passes less the stem's input gradient; nothing is computed twice."""
    config = compose(name, ["model.depth=10", "model.width=1"], PROJECT / "experiments")
    forward, stem = forward_and_stem(config)

    assert step_flops(config) == pytest.approx(forward_only * forward + trained * (3 * forward - stem), rel=1e-9)


@pytest.mark.usefixtures("cifar10_workplace")
def test_parts_are_timed_each_for_itself(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that ticks at every look, a part takes one tick a call, and is called as often as the method says."""
    ticks: Iterator[int] = iter(range(10_000))
    monkeypatch.setattr(measure, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    trainer = Trainer(config, 0, CPU)
    parts = Parts(trainer, CPU)

    trainer.method.step(trainer.state, trainer.batch(0), config.method)

    assert {
        "batch and views": 1, "teacher forward": 1, "teacher backward": 1, "student backward": 1,
        "student forward": 3,  # on pseudo labels, and on labelled images before and after
        "optimiser and average": 2,
    } == parts.seconds  # fmt: skip


RECORD = {
    "step": {"experiment": "x", "title": "MPL", "labelled": 16, "unlabelled": 112, "timed": 12, "flops": 400e9},
    "environment": {"device": "cpu", "device_name": "A (R) CPU", "threads": 2, "torch": "2.11",
                    "revision": "0123456789ab", "clean": True, "finished": "2026-01-02T03:04:05"},
    "ceilings": {"flops": {"float32": 200e9, "bfloat16": 400e9}, "bytes": 40e9},
    "ways": [
        {"name": "plain", "plain": True, "precision": "float32", "seconds": 4.0, "fastest": 3.9, "peak_bytes": 2**30,
         "bytes": 40e9, "parts": {}},
        {"name": "fast", "plain": False, "precision": "bfloat16", "seconds": 1.25, "fastest": 1.2, "peak_bytes": 2**29,
         "bytes": 20e9, "parts": {"forward": 0.5, "backward": 0.75}},
    ],
}  # fmt: skip


def test_the_table_divides_as_it_says(tmp_path: Path) -> None:
    """Ratios to the plain one, shares of the ceiling of the way's own precision; the page has what the files hold."""
    text = "\n".join(section(RECORD))
    path = write_bench(RECORD, tmp_path)

    assert "| plain | 4.000 | 3.900 | 0.25 | 32 | 1.00 | 1,024 MiB | 50 % | – |" in text
    assert "| fast | 1.250 | 1.200 | 0.80 | 102 | 3.20 | 512 MiB | 80 % | 40 % |" in text
    assert "| fast | 0.500 | 0.750 |" in text
    on_a_gpu = RECORD | {"environment": RECORD["environment"] | {"device": "cuda"}}
    assert "| plain | 4.0000 | 3.9000 | 0.25 | 32 | 1.00 | 1,024 MiB | – | – |" in "\n".join(section(on_a_gpu))
    assert "a-r-cpu-x-16-112.json" == path.name
    assert [RECORD] == read_benches(tmp_path)
    assert text in (tmp_path / "README.md").read_text()


def test_the_recorded_ones_are_on_the_page() -> None:
    """results/bench/README.md is generated, never edited."""
    assert (PROJECT / BENCH / "README.md").read_text() == page(read_benches(PROJECT / BENCH))
    for path in (PROJECT / BENCH).glob("*.json"):
        record = json.loads(path.read_text())
        once = AT_ONCE[record["environment"]["device"]]
        assert all(ceil(record["step"]["timed"] / once) <= len(way["all_seconds"]) for way in record["ways"])


def test_own_images_are_as_their_predictions_say() -> None:
    """Accuracies and intervals of the page, and what the README quotes, from what each model says of each image."""
    table = pd.read_csv(BENCH / "own_images.csv")
    page, readme = (BENCH / "own_images.md").read_text(), (PROJECT / "README.md").read_text()
    for name, images in table.groupby("set"):
        rows = {
            line.split("|")[1].strip(): line
            for line in page.split(f"## {name}")[1].split("## ")[0].splitlines()
            if "|" in line
        }
        methods: dict[str, dict[int, float]] = {}
        for column in images.dropna(axis="columns").columns[3:]:  # fastai's are there for one set
            method, seed = column.split()
            methods.setdefault(method, {})[int(seed)] = 100 * float((images[column] == images["label"]).mean())
        for method, accuracies in methods.items():
            assert f"| {' '.join(f'{accuracies[seed]:.1f}' for seed in range(5))} |" in rows[method]
            quoted = f"{np.mean(list(accuracies.values())):.1f}"
            if method != "probe":
                found = paired_difference(accuracies, methods["probe"])
                quoted = f"{signed(found.mean, 1)} [{signed(found.low, 1)}, {signed(found.high, 1)}]"
                assert f"| {quoted} | {found.p_value:.2g} |" in rows[method]
            assert method == "fastai" or quoted in readme.split(f"| {name} ")[1].splitlines()[0]
