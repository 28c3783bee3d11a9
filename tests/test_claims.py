"""The recorded evidence against the paper: fails when a run is outside its tolerance.

A claim that is INCONCLUSIVE or NOT_RUN is skipped and says what is missing. A claim with a `known_discrepancy` is
expected to fail, strictly: should it pass one day, this file says so.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from repro.records.scores import rebuild_all
from repro.verify.rebuild import Scores

from repro.evaluate.run import EvaluatedRun
from repro.records.runs import read_runs
from repro.records.verdicts import BEGIN, END, read_verdicts
from repro.report.verdicts import readme_table
from repro.verify.claims import Claim, Status, read_claims
from repro.verify.rules import judge

ROOT = Path(__file__).parent.parent
CLAIMS = read_claims(ROOT / "experiments/claims.yaml")


@cache
def recorded() -> dict[str, list[EvaluatedRun]]:
    """All run folders."""
    return read_runs(ROOT / "results/runs")


@cache
def scores() -> dict[str, Scores]:
    """All accuracies, recomputed."""
    return rebuild_all(recorded())


def as_parameter(claim: Claim) -> object:
    """A claim with its strict expected failure where a discrepancy is known."""
    marks = [pytest.mark.xfail(reason=claim.known_discrepancy, strict=True)] if claim.known_discrepancy else []
    return pytest.param(claim, id=claim.id, marks=marks)


@pytest.mark.parametrize("claim", [as_parameter(claim) for claim in CLAIMS])
def test_claim(claim: Claim) -> None:
    """What the paper says, or a control says must hold, holds in the recorded runs."""
    verdict = judge(claim, scores())

    if verdict.status in {Status.INCONCLUSIVE, Status.NOT_RUN}:
        pytest.skip(f"{verdict.status}: {verdict.reason}; missing: {verdict.missing}")
    assert verdict.status in {Status.REPRODUCED, Status.EXCEEDED}, verdict.reason


def test_every_recorded_accuracy_can_be_recomputed() -> None:
    """No number in results/ rests on anything but stored predictions and the data sets' labels."""
    refused = {name: score.problems for name, score in scores().items() if score.problems}

    assert {} == refused
    assert scores()


def test_recorded_verdicts_are_what_the_rules_say_today() -> None:
    """results/verdicts.json is not older than the rules, the claims or the runs."""
    today = {claim.id: judge(claim, scores()).status for claim in CLAIMS}

    written = {verdict.claim: verdict.status for verdict in read_verdicts(ROOT / "results/verdicts.json")}

    assert today == written


def test_readme_shows_the_recorded_verdicts() -> None:
    """The README's table is the generated one."""
    text = (ROOT / "README.md").read_text()

    shown = text.split(BEGIN)[1].split(END)[0].strip()

    assert readme_table(CLAIMS, read_verdicts(ROOT / "results/verdicts.json")).strip() == shown


def test_report_links_to_figures_that_are_there() -> None:
    """Every picture of the report exists, and no stale one lies beside them."""
    text = (ROOT / "results/REPORT.md").read_text()
    linked = {part.split(")")[0] for part in text.split("](figures/")[1:]}

    assert linked == {path.name for path in (ROOT / "results/figures").glob("*.png")}


@pytest.mark.parametrize(
    "run", [run for runs in recorded().values() for run in runs], ids=lambda r: f"{r.name}-{r.seeds[0]}"
)
def test_a_run_folder_explains_itself(run: EvaluatedRun) -> None:
    """Revision, versions, device, duration, hashes and finite metrics are there."""
    wanted = {"revision", "clean", "torch", "python", "device", "device_name", "seconds", "source"}

    assert wanted - set(run.environment) == set()
    assert run.metrics["step"].iloc[-1] == run.config["budget"]["steps"]
    assert np.isfinite(run.metrics.drop(columns="step").to_numpy()[-1]).any()
    assert run.config["data_hash"]


def test_paired_arms_saw_the_same_data() -> None:
    """Runs of the same data settings and seeds have one training hash."""
    hashes: dict[tuple[str, tuple[int, ...]], set[str]] = {}
    for run in (run for runs in recorded().values() for run in runs):
        hashes.setdefault((str(run.config["data"]), tuple(run.seeds)), set()).add(run.data["training_hash"])

    assert all(len(found) == 1 for found in hashes.values())


def test_h_0_teacher_is_the_uda_network_on_real_images() -> None:
    """In the recorded digits runs, MPL's teacher without feedback predicts exactly what UDA's network predicts."""
    uda, without = recorded()["digits_uda"], recorded()["digits_mpl_no_feedback"]

    same = [
        bool((a.predictions["teacher"] == b.predictions["teacher"]).all()) for a, b in zip(uda, without, strict=True)
    ]

    assert [True] * len(uda) == same


def test_released_feedback_moves_no_teacher() -> None:
    """In the recorded runs the released form's feedback gradient is rounding, and that of sampled labels is not."""
    released, sampled = (
        max(run.metrics["feedback_gradient_norm"].median() for run in recorded()[name])
        for name in ("digits_mpl_released", "digits_mpl")
    )

    assert released < 1e-6
    assert sampled > 1e-3
