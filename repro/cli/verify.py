"""Judges every claim on the recorded runs: results/runs/ and experiments/claims.yaml to results/verdicts.json.

python -m repro.cli.verify
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from repro.cli.entry import run
from repro.engine.device import set_up_process
from repro.evaluate.run import EvaluatedRun
from repro.records.runs import read_runs
from repro.records.scores import rebuild_all
from repro.records.verdicts import CLAIMS, write_verdicts
from repro.verify.claims import read_claims
from repro.verify.judge import judge
from repro.verify.rebuild import Scores
from repro.verify.verdict import Verdict


def main() -> None:
    """Reads, rebuilds, judges, writes."""
    set_up_process()
    runs = read_runs()
    verdicts, scores = judged(runs)
    write_verdicts(verdicts)
    refused = sorted({problem for score in scores.values() for problem in score.problems})
    for problem in refused:
        print(f"refused: {problem}")
    print(f"{len(verdicts)} claims judged on {len(scores)} runs")


def judged(runs: Mapping[str, Sequence[EvaluatedRun]]) -> tuple[list[Verdict], dict[str, Scores]]:
    """All verdicts on these runs, and the accuracies they rest on."""
    scores = rebuild_all(runs)
    return [judge(claim, scores) for claim in read_claims(CLAIMS)], scores


if __name__ == "__main__":
    run(main)
