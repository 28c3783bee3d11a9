"""The file of claims: what it holds, and the mistakes that are refused."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from repro.config.compose import compose, read_plan
from repro.verify.claims import Absolute, Ordering, Origin, read_claims
from repro.verify.judge import judge
from repro.verify.verdict import Status

CLAIMS = Path(__file__).parent.parent / "experiments" / "claims.yaml"


NUMBERS: dict[str, tuple[float, float | None]] = {  # typed from the paper, not from the YAML
    "cifar10_4k_mpl": (96.11, 0.07), "cifar10_4k_uda": (94.53, 0.18), "cifar10_all_supervised": (94.92, 0.17),
    "cifar10_4k_supervised": (82.14, 0.25), "cifar10_4k_smoothing": (82.21, 0.18),
    "cifar10_4k_regulariser": (83.71, 0.21), "cifar10_4k_pseudo_label": (83.79, 0.11),
    "cifar10_4k_pseudo_label_mpl": (84.11, 0.07), "cifar10_4k_mixup": (84.20, 0.15),
    "cifar10_4k_mixup_mpl": (84.81, 0.19), "cifar10_4k_randaugment": (85.53, 0.25),
    "cifar10_4k_randaugment_mpl": (87.55, 0.14), "cifar10_all_efficientnet_supervised": (97.18, 0.08),
    "cifar10_all_noisy_student": (98.22, 0.05), "cifar10_all_reduced_mpl": (98.56, 0.07),
    "svhn_1k_mpl": (98.01, 0.07), "svhn_1k_uda": (97.11, 0.17), "svhn_all_supervised": (97.41, 0.16),
    "svhn_1k_supervised": (88.17, 0.47), "svhn_1k_smoothing": (89.39, 0.25), "svhn_1k_regulariser": (91.89, 0.14),
    "imagenet_10pct_mpl": (73.89, None), "imagenet_10pct_uda": (68.07, None), "imagenet_all_supervised": (76.89, None),
    "imagenet_10pct_supervised": (57.75, None), "imagenet_10pct_randaugment": (60.88, None),
    "imagenet_10pct_supervised_mpl": (61.37, None), "imagenet_10pct_supervised_mpl_finetuned": (62.02, None),
    "imagenet_10pct_mpl_not_finetuned": (73.32, None), "imagenet_10pct_mpl_top5": (91.38, None),
    "imagenet_10pct_uda_top5": (88.19, None), "imagenet_all_supervised_top5": (93.27, None),
}  # fmt: skip
GAINS = {  # ordering -> the two numbers whose difference the paper claims
    "cifar10_4k_mpl_over_uda": ("cifar10_4k_mpl", "cifar10_4k_uda"),
    "cifar10_4k_regulariser_over_smoothing": ("cifar10_4k_regulariser", "cifar10_4k_smoothing"),
    "svhn_1k_regulariser_over_smoothing": ("svhn_1k_regulariser", "svhn_1k_smoothing"),
    "cifar10_4k_mpl_over_pseudo_labels": ("cifar10_4k_pseudo_label_mpl", "cifar10_4k_pseudo_label"),
    "cifar10_4k_mpl_over_mixup": ("cifar10_4k_mixup_mpl", "cifar10_4k_mixup"),
    "cifar10_4k_mpl_over_randaugment": ("cifar10_4k_randaugment_mpl", "cifar10_4k_randaugment"),
    "cifar10_all_reduced_mpl_over_noisy_student": ("cifar10_all_reduced_mpl", "cifar10_all_noisy_student"),
    "svhn_1k_mpl_over_uda": ("svhn_1k_mpl", "svhn_1k_uda"),
    "imagenet_10pct_mpl_over_uda": ("imagenet_10pct_mpl_not_finetuned", "imagenet_10pct_uda"),
    "imagenet_10pct_supervised_mpl_over_supervised": ("imagenet_10pct_supervised_mpl", "imagenet_10pct_supervised"),
    "imagenet_10pct_randaugment_over_supervised": ("imagenet_10pct_randaugment", "imagenet_10pct_supervised"),
    "imagenet_10pct_finetuning": ("imagenet_10pct_mpl", "imagenet_10pct_mpl_not_finetuned"),
}


def test_claims_of_the_paper() -> None:
    """Every number of Tables 2, 9, 10, 11 and Figure 3 that is the authors' own, with its spread, and its cost."""
    claims = {claim.id: claim for claim in read_claims(CLAIMS)}
    numbers = {key: (c.rule.value, c.rule.spread) for key, c in claims.items() if isinstance(c.rule, Absolute)}

    assert numbers == NUMBERS
    assert [] == [key for key in NUMBERS if judge(claims[key], {}).missing != claims[key].cost]
    assert [] == [key for key, c in claims.items() if isinstance(c.rule, Absolute) and not c.cost]
    assert {10, 1} == {c.rule.runs for c in claims.values() if isinstance(c.rule, Absolute)}
    assert Origin.control == claims["moons_feedback_sign"].by


def test_claimed_gains_are_differences_of_the_papers_numbers() -> None:
    """What an ordering says the paper gains is what its two numbers differ by; no gain is claimed without them."""
    orderings = {claim.id: claim.rule for claim in read_claims(CLAIMS) if isinstance(claim.rule, Ordering)}
    claimed = {key: rule.claimed for key, rule in orderings.items() if rule.claimed is not None}

    assert {key: round(NUMBERS[a][0] - NUMBERS[b][0], 2) for key, (a, b) in GAINS.items()} == claimed


def test_an_ordering_without_experiments_is_not_run() -> None:
    """It is stated all the same, and says what it would cost."""
    claim = next(claim for claim in read_claims(CLAIMS) if claim.id == "svhn_1k_mpl_over_uda")
    verdict = judge(claim, {})

    assert () == claim.runs
    assert (Status.NOT_RUN, "this version has no experiment for it") == (verdict.status, verdict.reason)
    assert verdict.missing == claim.cost
    assert "if the claim holds" in verdict.seeds_needed


def test_costs_are_those_of_the_experiments() -> None:
    """The cost of a number or ordering on CIFAR-10 names the steps and images of its own run, and its plan."""
    for claim in read_claims(CLAIMS):
        if not (claim.cost and claim.runs and claim.runs[0].startswith("cifar10_")):
            continue
        budget = compose(claim.runs[0], root=CLAIMS.parent).budget
        plan = claim.cost.split("PLAN=")[1].split()[0]
        steps = "50,000 + 50,000" if "pseudo_label" in claim.runs[0] else f"{budget.steps:,}"
        assert f"{steps} steps" in claim.cost, claim.id
        assert set(claim.runs) <= {run.name for run in read_plan(CLAIMS.parent / f"plan/{plan}.yaml")}, claim.id
        if claim.method == "mpl":
            assert f"{budget.labelled_batch} + {budget.unlabelled_batch} images" in claim.cost, claim.id


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("sayz", "typo", "c.sayz is not a field of Claim; did you mean 'says'?"),
        ("rule.marginn", 1, "c.rule.marginn is not a field of Absolute; did you mean 'margin'?"),
        ("rule.margin", None, "c.rule.margin = None: wants a finite number"),
        ("rule.margin", "0.2", "c.rule.margin = '0.2': wants a finite number"),
        ("rule.margin", math.nan, "not finite"),
        ("rule.margin", True, "wants a finite number"),
        ("rule.margin", -0.1, "must lie in (0, 5] points"),
        ("rule.margin", 50, "larger passes too easily"),
        ("rule.value", 961.1, "must be a percentage"),
        ("rule.runs", 1, "one run has no spread"),
        ("rule.spread", 0.0, "null where the paper gives none"),
        ("rule.kind", "absolut", "did you mean 'absolute'?"),
        ("rule", [1], "wants a mapping"),
        ("alpha", 0.5, "larger passes too easily"),
        ("by", "us", "wants one of: paper, control"),
        ("why", "", "is empty"),
        ("recipe", "DELETE", "recipe is missing"),
        ("method", "DELETE", "c.method is missing"),
        ("rule.network", [], "wants text"),
    ],
)
def test_impossible_claims_are_refused(tmp_path: Path, path: str, value: Any, message: str) -> None:
    """Each mistake in the file is refused by claim, key and remedy."""
    rule = {"kind": "absolute", "experiment": "mpl", "value": 96.11, "spread": 0.07, "runs": 10, "margin": 0.2}
    entry: dict[str, Any] = {
        "id": "c", "says": "s", "source": "t", "why": "w", "method": "mpl", "recipe": "paper", "rule": rule,
    }  # fmt: skip
    file = tmp_path / "claims.yaml"
    file.write_text(yaml.safe_dump({"claims": [entry]}))
    assert 1 == len(read_claims(file))
    *parents, last = path.split(".")
    part = entry["rule"] if parents else entry
    part.update({last: value}) if value != "DELETE" else part.pop(last)
    file.write_text(yaml.safe_dump({"claims": [entry]}))

    with pytest.raises(ValueError, match=re.escape(message)):
        read_claims(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"worse": ["a"]}, "holds rule.better itself"),
        ({"worse": ["b", "b"]}, "a list of different names"),
        ({"worse": "b"}, "a list of different names"),
        ({"worse": []}, "wants runs in both, or null and []"),
        ({"better": None}, "wants runs in both, or null and []"),
        ({"spread": 0.0}, "must be above 0 points"),
        ({"at_least": 1.0}, "at_least <= meaningful"),
        ({"at_least": -1.0}, "0 <= at_least"),
        ({"meaningful": 0.0}, "nothing could ever refute"),
        ({"kind": "success_rate", "success_at": 95}, "is a share"),
    ],
)
def test_impossible_comparisons_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """A comparison that could not fail, or compares nothing, is refused."""
    rule = {"kind": "ordering", "better": "a", "worse": ["b"], "at_least": 0, "meaningful": 0.5} | changes
    entry = {"id": "c", "says": "s", "source": "t", "why": "w", "method": "mpl", "rule": rule}
    file = tmp_path / "claims.yaml"
    file.write_text(yaml.safe_dump({"claims": [entry]}))

    with pytest.raises(ValueError, match=re.escape(message)):
        read_claims(file)


def test_claim_id_used_twice(tmp_path: Path) -> None:
    """Two claims of one id would hide one verdict behind the other."""
    first = yaml.safe_load(CLAIMS.read_text())["claims"][0]
    file = tmp_path / "claims.yaml"
    file.write_text(yaml.safe_dump({"claims": [first, first]}))

    with pytest.raises(ValueError, match="used twice"):
        read_claims(file)
