"""Judges every claim on the recorded runs: results/runs/ and experiments/claims.yaml to results/verdicts.json.

python -m repro.cli.verify
"""

from __future__ import annotations

from repro.cli.entry import run
from repro.records.runs import read_runs
from repro.records.scores import rebuild_all
from repro.records.verdicts import CLAIMS, write_verdicts
from repro.verify.claims import read_claims
from repro.verify.judge import judge


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
