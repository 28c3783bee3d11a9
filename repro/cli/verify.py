"""Judges every claim on the recorded runs: results/runs/ and experiments/claims.yaml to results/verdicts.json.

python -m repro.cli.verify
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from repro.cli.entry import run
from repro.evaluate.labels import test_labels
from repro.evaluate.run import EvaluatedRun
from repro.records.runs import read_runs
from repro.records.verdicts import write_verdicts
from repro.verify.claims import read_claims
from repro.verify.judge import judge
from repro.verify.rebuild import Scores, rebuild

CLAIMS = Path("experiments/claims.yaml")


def rebuild_all(runs: dict[str, list[EvaluatedRun]]) -> dict[str, Scores]:
    """Every accuracy, recomputed from stored predictions and the data sets' own labels."""
    known: dict[str, tuple[np.ndarray, str]] = {}

    def labels_of(one: EvaluatedRun) -> tuple[np.ndarray, str]:
        key = f"{one.config['data']}{one.seeds}"
        if key not in known:
            known[key] = test_labels(one.config, one.seeds)
        return known[key]

    return {name: rebuild(folders, labels_of) for name, folders in runs.items()}


def main() -> None:
    """Reads, rebuilds, judges, writes."""
    claims = read_claims(CLAIMS)
    scores = rebuild_all(read_runs())
    verdicts = [judge(claim, scores) for claim in claims]
    write_verdicts(verdicts)
    refused = sorted({problem for score in scores.values() for problem in score.problems})
    for problem in refused:
        print(f"refused: {problem}")
    print(f"{len(verdicts)} claims judged on {len(scores)} runs")


if __name__ == "__main__":
    run(main)
