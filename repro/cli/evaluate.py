"""Evaluates every trained run of the plan: artifacts/runs/<run>/ to results/runs/<run>/.

    python -m repro.cli.evaluate [<run> ...] [--plan params.yaml]

Recorded runs of other plans are left as they are. Test labels of data sets that are not shipped with the project go to
results/labels/, so that whoever has no images can recompute the accuracies.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import pandas as pd

from repro.cli.entry import run
from repro.cli.lock import only_writer
from repro.cli.stopping import die_with_parent
from repro.config import read_config
from repro.engine.device import set_up_process, worker_pool
from repro.evaluate.duplicates import in_words
from repro.evaluate.evaluate import evaluate
from repro.evaluate.labels import labels_to_store
from repro.files import remove_folder, restore_folder, sweep
from repro.plan import read_plan
from repro.records.labels import LABELS, store_labels
from repro.results import RUNS, RecordError, Run, joined, read_run, with_record_hashes, write_run
from repro.seeding import seeds_listed
from repro.train.checkpoint import load_results
from repro.train.storage import Damaged, OtherFormat
from repro.verify.evidence import expected_networks, settings_of

TRAINED = Path("artifacts/runs")


def main() -> None:
    """Evaluates runs side by side in worker processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", help="runs to evaluate (default: all of the plan)")
    parser.add_argument("--plan", type=Path, default=Path("params.yaml"), help="the plan file (default: params.yaml)")
    arguments = parser.parse_args()
    names = arguments.runs or [planned.name for planned in read_plan(arguments.plan)]
    set_up_process()
    workers, context = worker_pool(processes(len(names)))
    with only_writer(".evaluation", "what is recorded"), ProcessPoolExecutor(workers, context, _start_worker) as pool:
        LABELS.mkdir(parents=True, exist_ok=True)
        sweep(RUNS)
        sweep(LABELS)
        try:
            for line in pool.map(_evaluate_run, names):
                print(line, flush=True)
        except BrokenProcessPool:
            raise RuntimeError(
                "a worker process was killed; what was recorded before is intact; if memory ran out, evaluate one run "
                f"at a time: python -m repro.cli.evaluate <run>, with {', '.join(dict.fromkeys(names))} for <run>"
            ) from None


def processes(runs: int) -> int:
    """That evaluate so many runs."""
    return min(os.cpu_count() or 1, runs, 8)


def _start_worker() -> None:
    """A killed evaluation leaves no workers behind."""
    die_with_parent()


def _evaluate_run(name: str) -> str:
    """Evaluates all seeds of a run and replaces its record."""
    set_up_process()
    with only_writer(f"{name}.weights", f"what is trained of {name}"):
        restore_folder(TRAINED / name)
        try:
            results = load_results(TRAINED / name)
            if results[0].config["data"].get("test") == "":
                remove_folder(RUNS / name)  # what an earlier training with test images left
                return f"{name}: no test images, nothing to evaluate"
            evaluated = joined([evaluate(name, result) for result in results])
        except (Damaged, OtherFormat) as error:
            raise ValueError(f"{error}; train it again: dvc repro --force --single-item train@{name}") from error
    labels = labels_to_store(evaluated.config)
    if labels:
        store_labels(labels)
    write_run(with_record_hashes(with_seeds_seen(evaluated)))
    counted = expected_networks(read_config(evaluated.config))[1]
    accuracy = evaluated.seeds[f"accuracy.{counted}"]
    line = f"{name}: {counted} {100 * accuracy.mean():.2f} % over {len(accuracy)} seeds"
    collapsed = sum(len(set(classes.tolist())) == 1 for classes in evaluated.predictions(counted))
    if collapsed:
        line += f"; {collapsed} of them predict one class only"
    return line + in_words(evaluated, counted)


def with_seeds_seen(run: Run, root: Path = RUNS) -> Run:
    """The run, told which other seeds of it were recorded before: somebody may have chosen seeds by their results.

    A record that cannot be read today, or whose settings differ in more than the list of seeds, was another run.
    """
    try:
        old = read_run(root / run.name)
    except RecordError:
        return run
    if settings_of(old) != settings_of(run):
        return run
    now, before = (seeds_listed(one.seeds.index.tolist()) for one in (run, old))
    known = [text for text in old.seeds.get("seeds_before", pd.Series(dtype=str)).unique() if text]
    seen = list(dict.fromkeys([*known, *([before] if before != now else [])]))
    return replace(run, seeds=run.seeds.assign(seeds_before=" and ".join(seen))) if seen else run


if __name__ == "__main__":
    run(main)
