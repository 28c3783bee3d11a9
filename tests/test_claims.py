"""The recorded evidence against the paper: fails when a run is outside its tolerance.

A claim that is INCONCLUSIVE or NOT_RUN is skipped and says what is missing. A claim with a `known_discrepancy` is
expected to fail, strictly: should it pass one day, this file says so.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from repro.config import read_config
from repro.data import source_of
from repro.evaluate.predict import Predictor
from repro.evaluate.weights import read_weights
from repro.plan import read_plan
from repro.results import Run, read_run, read_runs
from repro.verify.claims import Claim, Status, read_claims, read_verdicts
from repro.verify.evidence import Scores, scores_of
from repro.verify.rules import judge

ROOT = Path(__file__).parent.parent
CLAIMS = read_claims(ROOT / "experiments/claims.yaml")
ARMS = [run.name for run in read_plan(ROOT / "experiments/plan/cifar10_cpu.yaml").runs]
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


@pytest.mark.parametrize("setting", ["digits", "cifar10_cpu"])
def test_h_0_teacher_is_the_uda_network_on_real_images(setting: str) -> None:
    """Bit for bit: the same losses and predictions from the same weights, batches and views."""
    uda, without = (recorded()[f"{setting}_{arm}"] for arm in ("uda", "mpl_no_feedback"))

    assert uda.seeds.index.tolist() == without.seeds.index.tolist()
    assert np.array_equal(uda.predictions("teacher"), without.predictions("teacher"))
    assert uda.metrics["uda_loss"].tolist() == without.metrics["uda_loss"].tolist()


def test_released_feedback_moves_no_teacher() -> None:
    """In the recorded runs the released form's feedback gradient is rounding, and that of sampled labels is not."""
    medians = {name: [rows["feedback_gradient_norm"].median() for _, rows in recorded()[name].metrics.groupby("seed")]
               for name in ("digits_mpl_released", "digits_mpl")}  # fmt: skip

    assert max(medians["digits_mpl_released"]) < 1e-6
    assert max(medians["digits_mpl"]) > 1e-3


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_of_cifar10_is_recorded_and_learned(name: str) -> None:
    """Three seeds of 1,000 steps in bfloat16, all finite; the loss on labels fell with each; averages are recorded."""
    run = recorded()[name]
    budget = run.config["budget"]
    loss = run.metrics["teacher_labelled_loss" if run.config["method"]["name"] == "mpl" else "labelled_loss"]

    assert [0, 1, 2] == run.seeds.index.tolist()
    assert (1000, 16, 112) == tuple(budget[key] for key in ("steps", "labelled_batch", "unlabelled_batch"))
    assert "bfloat16" == run.config["engine"]["precision"]
    assert np.isfinite(loss).all()
    for group in run.groups():
        mine = loss[run.metrics["seed"] == group].to_numpy()
        assert mine[-5:].mean() < 0.95 * mine[:5].mean()
    assert [name for name in run.networks if name.endswith("_average")]


@pytest.mark.usefixtures("all_of_cifar10")
@pytest.mark.parametrize("path", sorted((ROOT / "results/weights").glob("*.safetensors")), ids=lambda path: path.stem)
def test_kept_weights_predict_what_is_recorded(path: Path) -> None:
    """On the first test images, where CIFAR-10 is at hand: `recompute` takes all of them."""
    kept = read_weights(path)
    run = recorded()[kept.run]
    assert kept.revision == run.seeds.loc[kept.seed, "revision"]
    config = read_config(run.config)
    images = source_of(config.data).held_out_set(kept.seed).examples

    classes = Predictor(config, kept.seed).classes(kept.weights, images[:128])[0]

    (row,) = run.rows([kept.seed])
    assert np.mean(classes == run.predictions(kept.network)[row, :128]) > 0.97
