"""The claims against the paper's tables, typed once more, and against the experiments that they name."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import pytest

from repro.config import Config
from repro.methods import PseudoLabelMethod, Supervised
from repro.plan import compose, compose_planned, read_plan, run_names
from repro.verify.claims import Absolute, Measure, Ordering, Origin, SuccessRate, read_claims
from repro.verify.rules import judge

ROOT = Path(__file__).parent.parent / "experiments"
CLAIMS = {claim.id: claim for claim in read_claims(ROOT / "claims.yaml")}

TABLES = """
Table 2   cifar10_4k_mpl                          96.11 0.07 10
Table 2   cifar10_4k_uda                          94.53 0.18 10
Table 2   cifar10_all_supervised                  94.92 0.17 10
Table 2   svhn_1k_mpl                             98.01 0.07 10
Table 2   svhn_1k_uda                             97.11 0.17 10
Table 2   svhn_all_supervised                     97.41 0.16 10
Table 2   imagenet_10pct_mpl                      73.89 -    1
Table 2   imagenet_10pct_uda                      68.07 -    1
Table 2   imagenet_all_supervised                 76.89 -    1
Table 2   imagenet_10pct_mpl_top5                 91.38 -    1
Table 2   imagenet_10pct_uda_top5                 88.19 -    1
Table 2   imagenet_all_supervised_top5            93.27 -    1
Figure 3  imagenet_10pct_supervised               57.75 -    1
Figure 3  imagenet_10pct_randaugment              60.88 -    1
Figure 3  imagenet_10pct_supervised_mpl           61.37 -    1
Figure 3  imagenet_10pct_supervised_mpl_finetuned 62.02 -    1
Figure 3  imagenet_10pct_uda                      68.07 -    1
Figure 3  imagenet_10pct_mpl_unfinetuned          73.32 -    1
Figure 3  imagenet_10pct_mpl                      73.89 -    1
Table 9   cifar10_4k_supervised                   82.14 0.25 10
Table 9   cifar10_4k_smoothing                    82.21 0.18 10
Table 9   cifar10_4k_regulariser                  83.71 0.21 10
Table 9   svhn_1k_supervised                      88.17 0.47 10
Table 9   svhn_1k_smoothing                       89.39 0.25 10
Table 9   svhn_1k_regulariser                     91.89 0.14 10
Table 10  cifar10_4k_pseudo_label                 83.79 0.11 10
Table 10  cifar10_4k_pseudo_label_mpl             84.11 0.07 10
Table 10  cifar10_4k_mixup                        84.20 0.15 10
Table 10  cifar10_4k_mixup_mpl                    84.81 0.19 10
Table 10  cifar10_4k_randaugment                  85.53 0.25 10
Table 10  cifar10_4k_randaugment_mpl              87.55 0.14 10
Table 11  cifar10_full_supervised                 97.18 0.08 5
Table 11  cifar10_full_noisy_student              98.22 0.05 5
Table 11  cifar10_full_reduced_mpl                98.56 0.07 5
"""
"""Mean, standard deviation and number of runs; - where the paper gives no deviation. Typed from the paper."""

IMPROVEMENTS = {
    "cifar10_4k_mpl_over_uda": ("cifar10_4k_mpl", "cifar10_4k_uda"),
    "cifar10_4k_mpl_over_supervised": ("cifar10_4k_mpl", "cifar10_4k_supervised"),
    "cifar10_4k_mpl_over_pseudo_labels": ("cifar10_4k_mpl", "cifar10_4k_pseudo_label"),
    "cifar10_4k_uda_over_supervised": ("cifar10_4k_uda", "cifar10_4k_supervised"),
    "cifar10_4k_pseudo_label_over_supervised": ("cifar10_4k_pseudo_label", "cifar10_4k_supervised"),
    "cifar10_4k_mpl_over_all_labels": ("cifar10_4k_mpl", "cifar10_all_supervised"),
    "svhn_1k_mpl_over_uda": ("svhn_1k_mpl", "svhn_1k_uda"),
    "svhn_1k_mpl_over_all_labels": ("svhn_1k_mpl", "svhn_all_supervised"),
    "cifar10_4k_regulariser_over_smoothing": ("cifar10_4k_regulariser", "cifar10_4k_smoothing"),
    "cifar10_4k_regulariser_over_supervised": ("cifar10_4k_regulariser", "cifar10_4k_supervised"),
    "svhn_1k_regulariser_over_smoothing": ("svhn_1k_regulariser", "svhn_1k_smoothing"),
    "svhn_1k_regulariser_over_supervised": ("svhn_1k_regulariser", "svhn_1k_supervised"),
    "cifar10_4k_mpl_adds_to_pseudo_labels": ("cifar10_4k_pseudo_label_mpl", "cifar10_4k_pseudo_label"),
    "cifar10_4k_mpl_adds_to_mixup": ("cifar10_4k_mixup_mpl", "cifar10_4k_mixup"),
    "cifar10_4k_mpl_adds_to_randaugment": ("cifar10_4k_randaugment_mpl", "cifar10_4k_randaugment"),
    "imagenet_10pct_randaugment_over_supervised": ("imagenet_10pct_randaugment", "imagenet_10pct_supervised"),
    "imagenet_10pct_supervised_mpl_over_supervised": ("imagenet_10pct_supervised_mpl", "imagenet_10pct_supervised"),
    "imagenet_10pct_supervised_finetuning": (
        "imagenet_10pct_supervised_mpl_finetuned",
        "imagenet_10pct_supervised_mpl",
    ),
    "imagenet_10pct_uda_over_supervised": ("imagenet_10pct_uda", "imagenet_10pct_supervised"),
    "imagenet_10pct_mpl_over_uda_unfinetuned": ("imagenet_10pct_mpl_unfinetuned", "imagenet_10pct_uda"),
    "imagenet_10pct_finetuning": ("imagenet_10pct_mpl", "imagenet_10pct_mpl_unfinetuned"),
    "imagenet_10pct_mpl_over_uda": ("imagenet_10pct_mpl", "imagenet_10pct_uda"),
    "cifar10_full_reduced_mpl_over_noisy_student": ("cifar10_full_reduced_mpl", "cifar10_full_noisy_student"),
    "cifar10_full_noisy_student_over_supervised": ("cifar10_full_noisy_student", "cifar10_full_supervised"),
    "cifar10_full_reduced_mpl_over_supervised": ("cifar10_full_reduced_mpl", "cifar10_full_supervised"),
}
"""The claims that one number is above another of the same data, and the claims of the two."""

WITHOUT_EXPERIMENT = (  # paper, Tables 6 to 8: which claims, of which method, and steps and images of a run
    ("svhn_1k_", "mpl", "1,000,000 steps with 128 + 128 images"),
    ("imagenet_10pct_", "mpl", "500,000 steps with 2,048 + 2,048 images"),
)


@cache
def composed(name: str) -> Config:
    """The settings of an experiment."""
    return compose(name, root=ROOT)


def rows() -> list[tuple[str, str, tuple[float, float | None, int]]]:
    """`TABLES`: where the number stands, its claim, and value, spread and runs."""
    found = []
    for line in TABLES.strip().splitlines():
        kind, number, claim, value, spread, runs = line.split()
        found.append((f"{kind} {number}", claim, (float(value), None if spread == "-" else float(spread), int(runs))))
    return found


def steps_and_images(config: Config) -> str:
    """`1,000,000 steps with 128 + 128 images`: a fixed teacher's steps apart, unlabelled images where they are used."""
    budget, method = config.budget, config.method
    steps = f"{budget.steps:,}"
    if isinstance(method, PseudoLabelMethod):
        steps = f"{method.teacher_steps:,} + {budget.steps - method.teacher_steps:,}"
    unlabelled = "" if isinstance(method, Supervised) else f" + {budget.unlabelled_batch:,}"
    return f"{steps} steps with {budget.labelled_batch:,}{unlabelled} images"


def test_every_number_is_that_of_the_paper() -> None:
    """Value, spread and runs of each claim, none more and none less; it names its table, and says the number."""
    claimed = {
        name: (claim.rule.value, claim.rule.spread, claim.rule.runs)
        for name, claim in CLAIMS.items()
        if isinstance(claim.rule, Absolute)
    }

    assert {name: numbers for _, name, numbers in rows()} == claimed
    assert [] == [name for source, name, _ in rows() if source.split()[1] not in CLAIMS[name].source]
    assert [] == [name for _, name, (value, *_) in rows() if f"{value:.2f} %" not in CLAIMS[name].says]


def test_a_claim_is_judged_by_the_measure_that_it_names() -> None:
    """Whoever says top-5 is judged by top-5, and nobody else is."""
    top5 = {name for name, claim in CLAIMS.items() if "top-5" in claim.says}

    assert top5
    assert top5 == {
        name for name, claim in CLAIMS.items()
        if not isinstance(claim.rule, SuccessRate) and claim.rule.measure is Measure.top5
    }  # fmt: skip


def test_every_improvement_is_that_of_the_paper() -> None:
    """What an ordering claims is the difference of two numbers of the paper; each ordering that claims one is here."""
    value = {name: numbers[0] for _, name, numbers in rows()}
    expected = {name: round(value[better] - value[worse], 2) for name, (better, worse) in IMPROVEMENTS.items()}

    assert expected == {
        name: claim.rule.claimed
        for name, claim in CLAIMS.items()
        if isinstance(claim.rule, Ordering) and claim.rule.claimed is not None
    }
    assert [] == [name for name, better in expected.items() if better <= CLAIMS[name].rule.meaningful]  # type: ignore[union-attr]


def test_no_result_passes_for_a_number_and_for_the_one_that_it_is_compared_with() -> None:
    """Margins of two numbers between which an ordering is claimed do not touch."""
    wide = []
    for name, pair in IMPROVEMENTS.items():
        better, worse = (CLAIMS[claim].rule for claim in pair)
        if better.margin + worse.margin >= better.value - worse.value:
            wide.append(name)

    assert [] == wide


@pytest.mark.parametrize("name", [name for name, claim in CLAIMS.items() if claim.cost and claim.runs])
def test_a_cost_is_that_of_the_experiments(name: str) -> None:
    """Steps and images of every run that the claim needs are in its cost; the plan that it names has these runs."""
    claim = CLAIMS[name]
    path = ROOT / "plan" / f"{claim.cost.split('PLAN=')[1].split()[0]}.yaml"
    plan = {run.name: run for run in read_plan(path).runs}

    prices = {steps_and_images(compose_planned(plan[run], path)) for run in claim.runs}
    assert [] == [price for price in prices if price not in " ".join(claim.cost.split())]
    assert [] == [run for run in claim.runs if f"{len(plan[run].seeds)} seed" not in claim.cost]


@pytest.mark.parametrize("name", [name for name, claim in CLAIMS.items() if not claim.runs])
def test_a_claim_without_experiment_says_what_it_would_take(name: str) -> None:
    """Not run, with a cost by the paper's recipe where Tables 6 to 8 have one, and without an excuse."""
    claim = CLAIMS[name]
    wanted = [price for start, method, price in WITHOUT_EXPERIMENT if name.startswith(start) and claim.method == method]

    assert claim.cost
    assert claim.cost == judge(claim, {}).missing
    assert "not in this version" in " ".join(claim.cost.split())
    assert [] == [price for price in wanted if price not in " ".join(claim.cost.split())]
    assert "" == claim.known_discrepancy
    assert Origin.paper is claim.by


def test_runs_that_an_ordering_compares_have_the_same_data() -> None:
    """Otherwise seeds are no pairs, and the verdict could only be that the evidence is refused."""
    names = set(run_names(ROOT))
    apart = []
    for name, claim in CLAIMS.items():
        if not isinstance(claim.rule, Absolute) and claim.runs:
            assert set(claim.runs) <= names
            better, *others = (composed(run).data for run in claim.runs)
            apart += [name for other in others if other != better]

    assert [] == apart


def test_expected_spreads_are_those_of_the_papers_two_rows() -> None:
    """Before anything has run, paired differences are taken to scatter as two unpaired runs of the paper would."""
    spreads = {name: numbers[1] for _, name, numbers in rows()}
    expected = {
        name: round(math.hypot(spreads[better], spreads[worse]), 2)
        for name, (better, worse) in IMPROVEMENTS.items()
        if spreads[better] and spreads[worse]
    }

    assert expected == {name: CLAIMS[name].rule.spread for name in expected}  # type: ignore[union-attr]
    assert [] == [
        name for name, claim in CLAIMS.items()
        if isinstance(claim.rule, Ordering) and claim.rule.spread and name not in expected and claim.rule.claimed
    ]  # fmt: skip
