"""The recorded evidence against the paper: fails when a run is outside its tolerance.

A claim that is INCONCLUSIVE or NOT_RUN is skipped and says what is missing. A claim with a `known_discrepancy` is
expected to fail, strictly: should it pass one day, this file says so.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from repro.results import Run, read_run, read_runs
from repro.verify.claims import Claim, Status, read_claims, read_verdicts
from repro.verify.evidence import Scores, scores_of
from repro.verify.rules import judge

ROOT = Path(__file__).parent.parent
CLAIMS = read_claims(ROOT / "experiments/claims.yaml")
NAMES = sorted(path.name for path in (ROOT / "results/runs").glob("[!.]*"))


@cache
def recorded() -> dict[str, Run]:
    """All runs by name."""
    return read_runs(ROOT / "results/runs")


@cache
def scores() -> dict[str, Scores]:
    """All accuracies, recomputed."""
    return scores_of(recorded(), ROOT / "results/labels")


def as_parameter(claim: Claim) -> object:
    """A claim with its strict expected failure where a discrepancy is known."""
    marks = [pytest.mark.xfail(reason=claim.known_discrepancy, strict=True)] if claim.known_discrepancy else []
    return pytest.param(claim, id=claim.id, marks=marks)


@pytest.mark.parametrize("claim", [as_parameter(claim) for claim in CLAIMS])
def test_claim(claim: Claim) -> None:
    """What the paper says, or a control says must hold, holds in the recorded runs."""
    verdict = judge(claim, scores())

    if verdict.status is Status.NOT_RUN:
        pytest.skip("has not run: results/REPORT.md says what it takes")  # one line for all of them
    if verdict.status is Status.INCONCLUSIVE:
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

    assert today == {verdict.claim: verdict.status for verdict in read_verdicts(ROOT / "results/verdicts.json")}


@pytest.mark.parametrize("name", NAMES)
def test_a_record_explains_itself(name: str) -> None:
    """Of every seed revision, versions, device, duration and hashes are there; every log ends with a finite number.

    Code from an archive knows its revision, and not whether somebody has changed a file since: `clean` is empty.
    """
    run = read_run(ROOT / "results/runs" / name)
    wanted = ["revision", "torch", "python", "device", "device_name", "source", "training_hash", "record_hash"]

    assert not (run.seeds[wanted] == "").any(axis=None)
    assert set(run.seeds["clean"]) <= {"True", "False", ""}
    assert (run.seeds["seconds"] > 0).all()
    assert run.config["data_hash"]
    for group in run.groups():
        last = run.metrics[run.metrics["seed"] == group].iloc[-1]
        assert last["step"] == run.config["budget"]["steps"]
        assert np.isfinite(last.drop(["seed", "step"]).to_numpy(float)).any()


def test_paired_arms_saw_the_same_data() -> None:
    """Runs of the same data settings and seeds have one training hash."""
    hashes: dict[tuple[str, str], set[str]] = {}
    for run in recorded().values():
        for group, found in zip(run.seeds["group"], run.seeds["training_hash"], strict=True):
            hashes.setdefault((str(run.config["data"]), group), set()).add(found)

    assert all(len(found) == 1 for found in hashes.values())


def test_h_0_teacher_is_the_uda_network_on_real_images() -> None:
    """In the recorded digits runs, MPL's teacher without feedback predicts exactly what UDA's network predicts."""
    uda, without = recorded()["digits_uda"], recorded()["digits_mpl_no_feedback"]

    assert uda.seeds.index.tolist() == without.seeds.index.tolist()
    assert np.array_equal(uda.predictions("teacher"), without.predictions("teacher"))


def test_released_feedback_moves_no_teacher() -> None:
    """In the recorded runs the released form's feedback gradient is rounding, and that of sampled labels is not."""
    medians = {name: [rows["feedback_gradient_norm"].median() for _, rows in recorded()[name].metrics.groupby("seed")]
               for name in ("digits_mpl_released", "digits_mpl")}  # fmt: skip

    assert max(medians["digits_mpl_released"]) < 1e-6
    assert max(medians["digits_mpl"]) > 1e-3
