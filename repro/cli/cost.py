"""What a plan, or single experiments, would cost: steps, images, arithmetic, and days of this machine.

    python -m repro.cli.cost                        the plan in params.yaml
    python -m repro.cli.cost experiments/plan/cifar10_4k.yaml
    python -m repro.cli.cost cifar10_paper_mpl ...  experiments, one seed each

Arithmetic is counted while a small step runs, the speed of this machine is timed in one step; nothing is trained.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from repro.cli.entry import run
from repro.config.compose import Plan, PlannedRun, compose, read_whole_plan
from repro.config.data import Data
from repro.config.read import ConfigError
from repro.config.schema import Config
from repro.data import source_of
from repro.engine.device import choose_device, describe_device, set_up_process
from repro.train.cost import flops_per_second, run_flops

EXIT_NEEDS_GPU = 3

_DAY = 86_400
_WIDTHS = (5, 9, 13, 12, 8, 9)


def main() -> int:
    """Prints a table; returns 3 when the plan needs a GPU and there is none, so that a caller can stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="a plan file, or experiments (default: params.yaml)")
    parser.add_argument("--if-refused", action="store_true", help="print only where the plan cannot start here")
    arguments = parser.parse_args()
    plan = planned(arguments.what or ["params.yaml"])
    refused = plan.needs_gpu and choose_device().type == "cpu"
    if arguments.if_refused and not refused:
        return 0
    _print_costs(plan)
    if refused:
        print(f"\nPlan {plan.name} needs a GPU, and PyTorch finds none here, so it is not started.")
        print(f"On a machine with one: make reproduce PLAN={plan.name}")
        print("On this one: make reproduce (plan quick), or a plan of your own that shortens its runs "
              "(overrides: [budget.shortened_to=...]) and does not say `needs: gpu`.")  # fmt: skip
    return EXIT_NEEDS_GPU if refused else 0


def planned(what: list[str]) -> Plan:
    """A plan by its file, or one of single experiments, a seed each."""
    if len(what) == 1 and (what[0].endswith(".yaml") or Path(what[0]).is_file()):
        return read_whole_plan(Path(what[0]))
    return Plan("of single experiments", tuple(PlannedRun(name, name, (), (0,)) for name in what), needs_gpu=False)


def _print_costs(plan: Plan) -> None:
    set_up_process(_threads())
    configs = [(one, compose(one.experiment, one.overrides)) for one in plan.runs]
    priced = [(one, config) for one, config in configs if _is_priced(config.data)]
    if not priced:
        raise ConfigError(
            f"plan {plan.name}: its runs are not counted: they take minutes on a CPU, or are on a folder whose classes "
            "nobody has counted yet"
        )
    speed = flops_per_second(priced[-1][1])
    print(_row("run", "seeds", "steps", "images a step", "TFLOP a step", "EFLOP", "days here"))
    total = 0.0
    for one, config in priced:
        once = run_flops(config)
        flops = once * len(one.seeds)
        total += flops
        days = f"{flops / speed / _DAY:,.1f}"
        print(_row(one.name, str(len(one.seeds)), f"{config.budget.steps:,}", _images(config),
                   f"{once / config.budget.steps / 1e12:.3f}", f"{flops / 1e18:.2f}", days))  # fmt: skip
    device = describe_device(torch.device("cpu"))
    print(_row("all", "", "", "", "", f"{total / 1e18:.2f}", f"{total / speed / _DAY:,.1f}"))
    print(
        f"\nEFLOP: 1e18 floating-point operations of convolutions and matrix products, forward and backward, all seeds."
        f"\nDays here: at {speed / 1e9:,.0f} GFLOP/s in float32, timed just now in one small step on "
        f"{device['device_name']}, {_threads()} threads. A GPU that sustains 100 TFLOP/s would need "
        f"{total / 1e14 / _DAY:,.1f} days for the arithmetic; augmentation, memory traffic and evaluation come on top."
    )


def _is_priced(data: Data) -> bool:
    """Whether a run is worth counting, and its network known: a folder's classes may not be, before it is prepared."""
    return data.shape[0] == 3 and source_of(data).classes > 0


def _row(name: str, *cells: str) -> str:
    return f"{name:42}" + "".join(f" {cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))


def _threads() -> int:
    return os.cpu_count() or 1


def _images(config: Config) -> str:
    unlabelled = config.budget.unlabelled_batch if config.method.name != "supervised" else 0
    return f"{config.budget.labelled_batch} + {unlabelled}"


if __name__ == "__main__":
    run(main)
