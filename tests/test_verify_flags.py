"""What looks unlike a training is said with the evidence, and nothing of what was recorded is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from repro.results import Run
from repro.verify.claims import Claim, Status
from repro.verify.flags import before_registration
from repro.verify.rules import judge
from tests.verify_cases import BASE, HIGH, LABELS, MPL, ORDERING, cell, config, hashed, rebuilt, run_of

STUDENT = "predictions.student"
WRONG = "curve.pseudo_label_wrong"


def honest() -> Run:
    """Five seeds with about 50 wrong answers of 1,000 each, with all that the rules look at."""
    run = run_of("mpl", HIGH, config(MPL))
    accuracy = run.seeds["accuracy.student"].to_numpy()
    last = run.metrics["step"] == 1000
    arrays = run.arrays | {
        "curve.accuracy.student": np.stack([np.full(5, 0.1), accuracy], axis=1).astype(np.float32),
        WRONG: np.array([[0.9, 0.06]] * 5, np.float32),
    }
    seeds = run.seeds.assign(device="cpu", device_name="a", finished="2026-11-29T12:00:00+00:00")
    seeds["seconds"] = [10.0, 11.0, 10.0, 30.0, 2.0]
    log = run.metrics.assign(pseudo_label_wrong=np.where(last, 0.1, 0.8))
    return replace(run, seeds=seeds, metrics=log, arrays=arrays)


def with_student(run: Run, seed: int, classes: np.ndarray) -> Run:
    """Other predictions of one seed's networks, with an accuracy and a curve that fit."""
    share, run = float((classes == LABELS).mean()), replace(run, arrays={k: v.copy() for k, v in run.arrays.items()})
    for network in run.networks:
        run.arrays[f"predictions.{network}"][seed] = classes
        run = cell(run, f"accuracy.{network}", share, seed)
    run.arrays["curve.accuracy.student"][seed, -1] = share
    return run


def copied(run: Run, answers: int) -> Run:
    """The lucky seed 4 over seed 0, with so many of its right answers made wrong."""
    classes = run.arrays[STUDENT][4].copy()
    changed = np.flatnonzero(classes == LABELS)[:answers]
    classes[changed] = (classes[changed] + 3) % 10
    return with_student(run, 0, classes)


def ends(run: Run, name: str, value: float) -> Run:
    """Another last value of a curve for seed 2."""
    values = run.arrays[name].copy()
    values[2, -1] = value
    return replace(run, arrays=run.arrays | {name: values})


def logged(run: Run, value: float) -> Run:
    """Another share of wrong pseudo labels in seed 3's last row."""
    at = (run.metrics["seed"] == "3") & (run.metrics["step"] == 1000)
    return replace(
        run, metrics=run.metrics.assign(pseudo_label_wrong=run.metrics["pseudo_label_wrong"].mask(at, value))
    )


FLAGGED: dict[str, tuple[Callable[[Run], Run], str]] = {
    "a copy": (lambda run: copied(run, 0), "seeds 0 and 4 give the same wrong answer to 100 % of the 43 examples"),
    "a copy, some answers changed": (lambda run: copied(run, 9),
        "seeds 0 and 4 give the same wrong answer to 83 % of the 52"),
    "a curve that ends higher": (
        lambda run: ends(run, "curve.accuracy.student", 0.99),
        "seed 2 ends at an accuracy of 0.9900, its predictions give 0.9490"),
    "a curve that ends nowhere": (lambda run: ends(run, "curve.accuracy.student", np.nan),
        "seed 2 ends at an accuracy of nan"),
    "a log of another run": (lambda run: logged(run, 0.5),
        "seed 3: the log ends with 50 % of pseudo labels wrong, the curve with 6 %"),
    "no time at all": (lambda run: cell(run, "seconds", 0.05, 1),
        "seed 1: 0.05 seconds for 1,000 steps is less than any"),
    "a time that is none": (lambda run: cell(run, "seconds", float("nan"), 1),
        "seed 1: nan seconds for 1,000 steps"),
    "a tenth of the others' time": (lambda run: cell(run, "seconds", 0.9, 1), "seed 1: 0.9 seconds, where half"),
    "ten times the others' time": (lambda run: cell(run, "seconds", 101.0, 1),
        "seed 1: 101 seconds, where half of the seeds"),
}  # fmt: skip


@pytest.mark.parametrize("name", FLAGGED)
def test_what_looks_unlike_a_training_is_said(name: str) -> None:
    """One sentence in the verdict's departures; it is no refusal, so the verdict stands."""
    change, said = FLAGGED[name]
    found = rebuilt(hashed(change(honest())))
    verdict = judge(ORDERING, {"mpl": found} | BASE)

    assert [] == found.problems
    assert any(said in flag for flag in found.flags), found.flags
    assert any(said in one and one.startswith("mpl: ") for one in verdict.departures)
    assert Status.REPRODUCED == verdict.status


NOT_FLAGGED: dict[str, Callable[[Run], Run]] = {
    "as it is": lambda run: run,
    "one answer in five is the same": lambda run: copied(run, 40),
    "networks that collapsed": lambda run: with_student(
        with_student(run, 0, np.full(1000, 3, np.uint8)), 1, np.full(1000, 3, np.uint8)),
    "a curve within the rounding": lambda run: ends(run, "curve.accuracy.student", 0.9530),
    "another device": lambda run: cell(cell(run, "seconds", 0.9, 1), "device_name", "b", 1),
    "no log of pseudo labels": lambda run: replace(run, metrics=run.metrics.drop(columns="pseudo_label_wrong")),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_FLAGGED)
def test_what_honest_runs_show_is_not(name: str) -> None:
    """Hard examples that several seeds get wrong, networks that learned nothing, a slower machine."""
    found = rebuilt(hashed(NOT_FLAGGED[name](honest())))

    assert [] == found.problems
    assert [] == found.flags


def test_the_curve_of_a_part_is_held_against_that_part() -> None:
    """With `curve_examples` = 100 of 1,000, every tenth example counts."""
    run = honest()
    run.config["budget"]["curve_examples"] = 100
    right = [float(np.mean((run.predictions("student")[seed] == LABELS)[::10])) for seed in range(5)]
    values = np.stack([np.zeros(5), right], axis=1).astype(np.float32)

    assert [] == rebuilt(hashed(replace(run, arrays=run.arrays | {"curve.accuracy.student": values}))).flags
    assert f"its predictions give {right[0]:.4f} on the same" in rebuilt(hashed(run)).flags[0]


def test_a_record_older_than_its_claim_is_said() -> None:
    """Only where the claim says when it was registered; times are compared as times, whatever their zone."""
    at = "2026-11-29T12:30:00+01:00"
    registered: Claim = replace(ORDERING, registered=at)
    base = {"base": replace(BASE["base"], finished=dict.fromkeys(range(5), "2026-11-30T00:00:00+00:00"))}

    def said(run: Run, claim: Claim) -> list[str]:
        verdict = judge(claim, {"mpl": rebuilt(hashed(run))} | base)
        assert Status.REPRODUCED == verdict.status
        return [one for one in verdict.departures if "registered" in one or "claim" in one]

    early = cell(honest(), "finished", "2026-11-29T11:00:00+00:00", 3)
    assert [] == said(early, ORDERING)
    assert [] == said(honest(), registered)
    assert [f"mpl: seed 3 was finished at 2026-11-29T11:00:00+00:00, before its claim was registered at {at}"] == said(
        early, registered
    )
    for when in ("", "yesterday", "2026-11-29T12:00:00"):
        assert ["mpl: seed 1 does not say when it was finished, so not whether its claim came first"] == said(
            cell(honest(), "finished", when, 1), registered
        )
    assert "" == before_registration({}, at)


def test_seconds_of_a_stack_are_of_all_its_seeds() -> None:
    """Each row says its share: fifty seeds in fifty seconds took a second of every step's time together."""
    run = run_of("moons", dict.fromkeys(range(5), 900), config(MPL))
    shared = run.seeds.assign(seconds=0.03, device="cpu")
    log = run.metrics[run.metrics["seed"] == "0"].assign(seed="0-4")

    stacked = replace(run, seeds=shared.assign(group="0-4", training_hash="train-0,1,2,3,4"), metrics=log)

    assert [] == rebuilt(hashed(stacked)).flags
    assert 5 == len([flag for flag in rebuilt(hashed(replace(run, seeds=shared))).flags if "0.03 seconds" in flag])
