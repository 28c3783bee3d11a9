"""Arithmetic of a step: counted, linear in the batch, and what the passes add up to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from repro.config import Config
from repro.cost import EXIT_NEEDS_GPU, run_flops, step_flops
from repro.cost import main_cost as main
from repro.models.networks import build_model
from repro.plan import compose
from repro.seeding import Streams

ROOT = Path(__file__).parent.parent / "experiments"
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
    monkeypatch.setattr("repro.config.compose.ROOT", ROOT)
    monkeypatch.setattr("repro.cli.cost.compose", lambda name, overrides: compose(name, [*overrides, *SMALL], ROOT))
    monkeypatch.setattr("repro.cli.cost.choose_device", lambda: torch.device("cpu"))
    for needs, status in (("needs: gpu\n", EXIT_NEEDS_GPU), ("", 0)):
        plan = tmp_path / "big.yaml"
        plan.write_text(f"{needs}runs:\n  cifar10_paper_mpl: {{seeds: 0-2}}\n")
        monkeypatch.setattr("sys.argv", ["cost", str(plan), "--if-refused"])
        assert status == main()
        said = capsys.readouterr().out
        assert bool(needs) == ("cifar10_paper_mpl" in said)
        assert bool(needs) == ("Plan big needs a GPU" in said)
