"""Computes the test accuracy of kept weights again, and compares their predictions with the recorded ones.

    python -m repro.cli.recompute results/weights/<file>.safetensors ...

The test images are taken from where the run's settings say (`datasets/`), or downloaded there. Ends with 1 where fewer
than 99 % of the predictions are the recorded ones: half precision and another processor's order of sums change some of
the closest calls.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from repro.cli.entry import run
from repro.config.read import read_config
from repro.data import source_of
from repro.engine.device import free_processors, set_up_process
from repro.evaluate.model import Score, score
from repro.records.runs import RUNS, read_run
from repro.records.weights import KeptWeights, read_weights
from repro.seeding import seeds_label

_ENOUGH = 0.99  # of the predictions


def main() -> int:
    """One line for each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="what export left")
    arguments = parser.parse_args()
    set_up_process(free_processors())
    differ = 0
    for path in arguments.files:
        kept = read_weights(path)
        config = read_config(kept.config)
        source_of(config.data).prepare()
        found = score(config, kept.seed, kept.weights)
        if found is None:
            raise ValueError(f"{kept.run} has no test images, so nothing can be computed again")
        share = _as_recorded(kept, found)
        differ += share < _ENOUGH
        print(
            f"{kept.run} seed {kept.seed}, {kept.network}: {100 * found.right / found.images:.2f} % of "
            f"{found.images:,} test images; {100 * share:.2f} % of the predictions as recorded",
            flush=True,
        )
    if differ:
        print("Other predictions than recorded: of another training; export and evaluate the same one", file=sys.stderr)
    return 1 if differ else 0


def _as_recorded(kept: KeptWeights, found: Score) -> float:
    """The share of the predictions that are those of the run's record."""
    recorded = read_run(RUNS / kept.run / seeds_label([kept.seed])).predictions
    if kept.network not in recorded:
        raise ValueError(f"the record of {kept.run} has no network {kept.network}; evaluate it again")
    return float(np.mean(recorded[kept.network][0] == found.classes))


if __name__ == "__main__":
    run(main)
