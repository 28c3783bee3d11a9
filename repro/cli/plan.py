"""What a plan takes on this machine, found by some steps of each of its runs: hours, memory, disk.

    python -m repro.cli.plan                             the plan in params.yaml
    python -m repro.cli.plan experiments/plan/digits.yaml
    python -m repro.cli.plan cifar10_paper_mpl ...       experiments, one seed each

Each run trains for a moment as it would, with as many seeds at once, on its own data, which are prepared first
where they are not; nothing else is kept.
`python -m repro.cli.cost` counts the arithmetic instead, which wants no data.
"""

from __future__ import annotations

import argparse

from repro.bench.probe import Cost, cost_of
from repro.cli.cost import planned
from repro.cli.entry import run
from repro.cli.evaluate import processes
from repro.config.compose import compose
from repro.data import source_of
from repro.engine.device import choose_device, describe_device, worker_pool

_WIDTHS = (5, 11, 6, 9, 9, 11, 10, 10)


def main() -> None:
    """Prints a row as soon as a run is probed, then what all take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="a plan file, or experiments (default: params.yaml)")
    parser.add_argument(
        "--seconds", type=float, default=8.0, help="for each run, and three steps at least (default: 8)"
    )
    arguments = parser.parse_args()
    plan = planned(arguments.what or ["params.yaml"])
    configs = [compose(one.experiment, one.overrides) for one in plan.runs]
    device = choose_device()
    print(f"{plan.name}: {len(plan.runs)} runs, some steps of each, on {describe_device(device)['device_name']}")
    print(_row("run", "seeds", "steps", "timed", "s a step", "training", "evaluating", "memory", "disk"), flush=True)
    costs = []
    for one, config in zip(plan.runs, configs, strict=True):
        try:
            source_of(config.data).prepare()
            config.data = source_of(config.data).settled()
            cost = cost_of(config, list(one.seeds), arguments.seconds)
        except (ValueError, OSError, RuntimeError) as error:  # no data, no memory, a worker that was killed
            print(f"{one.name:42} cannot be probed: {error}", flush=True)
            continue
        costs.append(cost)
        print(_cells(one.name, len(one.seeds), config.budget.steps, cost), flush=True)
    _print_all(len(plan.runs) - len(costs), costs)


def _cells(name: str, seeds: int, steps: int, cost: Cost) -> str:
    one = cost.probe
    return _row(name, str(seeds), f"{steps:,}", str(one.steps), f"{one.training / steps:.3f}", duration(cost.training),
                duration(cost.evaluation), size(cost.peak_bytes), size(cost.disk_bytes))  # fmt: skip


def _print_all(missing: int, costs: list[Cost]) -> None:
    if not costs:
        return
    training, peak = sum(cost.training for cost in costs), max(cost.peak_bytes for cost in costs)
    evaluating = together([cost.evaluation for cost in costs])
    kept = sum(cost.kept_bytes for cost in costs)
    working = max(cost.disk_bytes - cost.kept_bytes for cost in costs)
    print(_row("all, one run after another", "", "", "", "", duration(training), duration(evaluating), size(peak),
               size(kept + working)))  # fmt: skip
    print(
        "\n`all` are evaluated side by side. Memory: of the processes that train side by side, at their peak.\n"
        "Disk: artifacts/ and state/; what results/ keeps is small. Verdicts and report take a minute."
        + (f" {missing} of the runs are not in the sum." if missing else "")
    )


def together(evaluations: list[float]) -> float:
    """Seconds of evaluating all runs, as many at once as `repro.cli.evaluate` takes."""
    workers, _ = worker_pool(processes(len(evaluations)))
    return max(*evaluations, sum(evaluations) / workers)


def size(count: int) -> str:
    """Bytes in words."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def duration(seconds: float) -> str:
    """In the unit that a person would choose."""
    for unit, length, below in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 72)):
        if seconds < below * length:
            return f"{seconds / length:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86_400:,.1f} days"


def _row(name: str, *cells: str) -> str:
    return f"{name:42}" + "".join(f" {cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))


if __name__ == "__main__":
    run(main)
