"""Judges every claim on the recorded runs: results/runs/ and experiments/claims.yaml to results/verdicts.json.

Also writes results/bands.json, by which later trainings are compared with the recorded ones (repro/train/alarm.py).

python -m repro.cli.verify
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from repro.cli.entry import run
from repro.engine.device import set_up_process
from repro.evaluate.run import EvaluatedRun
from repro.files import write_whole
from repro.records.runs import read_runs
from repro.records.scores import rebuild_all
from repro.records.verdicts import CLAIMS, write_verdicts
from repro.train.alarm import BANDS, bands_as_text
from repro.verify.bands import bands_of
from repro.verify.claims import Verdict, read_claims
from repro.verify.rebuild import Scores
from repro.verify.rules import judge


def main() -> None:
    """Reads, rebuilds, judges, writes."""
    set_up_process()
    runs = read_runs()
    verdicts, scores, bands = judged(runs)
    write_verdicts(verdicts)
    write_whole(BANDS, bands.encode())
    refused = sorted({problem for score in scores.values() for problem in score.problems})
    for problem in refused:
        print(f"refused: {problem}")
    print(f"{len(verdicts)} claims judged on {len(scores)} runs")


def judged(runs: Mapping[str, Sequence[EvaluatedRun]]) -> tuple[list[Verdict], dict[str, Scores], str]:
    """All verdicts on these runs, the accuracies they rest on, and the text of the bands."""
    scores = rebuild_all(runs)
    return [judge(claim, scores) for claim in read_claims(CLAIMS)], scores, bands_as_text(bands_of(runs))


if __name__ == "__main__":
    run(main)
