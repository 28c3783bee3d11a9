"""Judges every claim on the recorded runs: results/runs/ and experiments/claims.yaml to results/verdicts.json.

python -m repro.cli.verify
"""

from __future__ import annotations

from collections.abc import Mapping

from repro.cli.entry import run
from repro.engine.device import set_up_process
from repro.records.verdicts import CLAIMS, write_verdicts
from repro.results import Run, read_runs
from repro.verify.claims import Verdict, read_claims
from repro.verify.evidence import Scores, scores_of
from repro.verify.rules import judge


def main() -> None:
    """Reads, rebuilds, judges, writes."""
    set_up_process()
    verdicts, scores = judged(read_runs())
    write_verdicts(verdicts)
    refused = sorted({problem for score in scores.values() for problem in score.problems})
    for problem in refused:
        print(f"refused: {problem}")
    print(f"{len(verdicts)} claims judged on {len(scores)} runs")


def judged(runs: Mapping[str, Run]) -> tuple[list[Verdict], dict[str, Scores]]:
    """All verdicts on these runs, and the accuracies they rest on."""
    scores = scores_of(runs)
    return [judge(claim, scores) for claim in read_claims(CLAIMS)], scores


if __name__ == "__main__":
    run(main)
