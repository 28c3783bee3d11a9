"""Evaluates every trained run of the plan: artifacts/runs/<run>/ to results/runs/<run>/.

    python -m repro.cli.evaluate [<run> ...] [--plan params.yaml]

Recorded runs of other plans are left as they are.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from repro.cli.entry import run
from repro.config.compose import read_plan
from repro.engine import set_up_process, worker_pool
from repro.evaluate.duplicates import in_words
from repro.evaluate.evaluate import evaluate
from repro.records.runs import replace_run
from repro.train.result import load_results

TRAINED = Path("artifacts/runs")


def main() -> None:
    """Evaluates runs side by side in worker processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", help="runs to evaluate (default: all of the plan)")
    parser.add_argument("--plan", type=Path, default=Path("params.yaml"), help="the plan file (default: params.yaml)")
    arguments = parser.parse_args()
    names = arguments.runs or [planned.name for planned in read_plan(arguments.plan)]
    set_up_process()
    workers, context = worker_pool(min(os.cpu_count() or 1, len(names), 8))
    with ProcessPoolExecutor(workers, context) as pool:
        for line in pool.map(_evaluate_run, names):
            print(line, flush=True)


def _evaluate_run(name: str) -> str:
    """Evaluates all seeds of a run and replaces its record."""
    set_up_process()
    evaluated = [evaluate(name, result) for result in load_results(TRAINED / name)]
    replace_run(evaluated)
    accuracy = [a for one in evaluated for a in one.accuracy[one.counted]]
    shares = f"{name}: {evaluated[0].counted} {100 * sum(accuracy) / len(accuracy):.2f} % over {len(accuracy)} seeds"
    return shares + in_words(evaluated)


if __name__ == "__main__":
    run(main)
