"""Judges every claim on the recorded runs: results/runs/ and experiments/claims.yaml to results/verdicts.json.

Also writes results/bands.json, by which later trainings are compared with the recorded ones (repro/train/alarm.py).

python -m repro.cli.verify
"""

from __future__ import annotations

from repro.cli.entry import run
from repro.engine import set_up_process
from repro.files import write_whole
from repro.records.runs import read_runs
from repro.records.scores import rebuild_all
from repro.records.verdicts import CLAIMS, write_verdicts
from repro.train.alarm import BANDS, bands_as_text
from repro.verify.bands import bands_of
from repro.verify.claims import read_claims
from repro.verify.judge import judge


def main() -> None:
    """Reads, rebuilds, judges, writes."""
    set_up_process()
    claims = read_claims(CLAIMS)
    runs = read_runs()
    scores = rebuild_all(runs)
    verdicts = [judge(claim, scores) for claim in claims]
    write_verdicts(verdicts)
    write_whole(BANDS, bands_as_text(bands_of(runs)).encode())
    refused = sorted({problem for score in scores.values() for problem in score.problems})
    for problem in refused:
        print(f"refused: {problem}")
    print(f"{len(verdicts)} claims judged on {len(scores)} runs")


if __name__ == "__main__":
    run(main)
