"""The page that is read first, the seeds that were trained again: what they say and when."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np

from repro.config.compose import compose
from repro.config.read import as_mapping
from repro.report.again import again_table
from repro.report.on_test_set import on_test_set_table
from repro.report.render import render
from repro.report.verdicts import readme_table
from repro.verify.claims import Absolute, Ordering, Status, Verdict
from tests.report_cases import DIGITS, QUICK, arms_on, make_claim, make_run, make_scores, report_on, section_of

EXPERIMENTS = Path(__file__).parent.parent / "experiments"

ARMS = {
    "digits_supervised": ("teacher", [0.80, 0.82, 0.81]),
    "digits_uda": ("teacher", [0.90, 0.91, 0.92]),
    "digits_mpl_no_feedback": ("student", [0.88, 0.90, 0.89]),
    "digits_mpl": ("student", [0.89, 0.90, 0.91]),
}


ONE_SEED = {f"cifar10_cpu_{name.removeprefix('digits_')}": (arm[0], arm[1][:1]) for name, arm in ARMS.items()}


def page(*names: str) -> str:
    """The first page of a report on these arms, with one number not run and one ordering refuted."""
    runs = {}
    for name in names:
        network, finals = (ARMS | ONE_SEED)[name]
        runs[name] = make_run(name, finals, counted=network, accuracy={network: finals})
    number = replace(make_claim("number"), rule=Absolute(None, 96.11, 0.07, 10, 0.18))
    claims = [number, make_claim("order")]
    verdicts = [Verdict("number", Status.NOT_RUN, "no run"), Verdict("order", Status.NOT_REPRODUCED, "worse")]
    scores = {name: make_scores(run) for name, run in runs.items()}
    text = render({name: [run] for name, run in runs.items()}, scores, claims, verdicts, []).markdown
    return section_of(text, "On one page")


def test_the_page_answers_three_questions_from_the_runs() -> None:
    """Numbers and orderings are counted apart; parts and wrong labels are those of the recorded arms."""
    text = page(*ARMS)

    assert "Of 1 number of the paper: 1 NOT RUN. Of 1 ordering that it states or implies: 1 NOT REPRODUCED." in text
    assert "*order holds*: NOT REPRODUCED" in text
    assert "|  | + feedback h | 90.00 | +1.00 [−1.48, +3.48] | 3 |" in text
    assert "| Handwritten digits, few labels | mpl | 11.00 | 10.00 | −1.00 [−3.48, +1.48] |" in text
    assert "figures/digits_attribution.png" in text
    assert "1 number of the paper was not run here" in text


def test_the_page_draws_a_setting_with_seeds_enough() -> None:
    """One seed has no interval: its row stands in the table, and the picture is of the next setting; else its own."""
    both, alone = page(*ARMS, *ONE_SEED), page(*ONE_SEED)

    assert "|  | + feedback h | 89.00 | +1.00, no interval | 1 |" in both
    assert "|  | + feedback h | 90.00 | +1.00 [−1.48, +3.48] | 3 |" in both
    assert "figures/digits_attribution.png" in both
    assert "figures/cifar10_cpu_attribution.png" in alone


def test_the_page_says_when_there_is_nothing_to_say() -> None:
    """With one arm nothing is taken apart and nothing is compared; no figure is promised."""
    text = page("digits_mpl")

    assert "No setting has been taken apart yet" in text
    assert "No pair of runs with and without feedback" in text
    assert "figures/" not in text


def test_seeds_trained_again_stand_beside_the_record() -> None:
    """Accuracies of the same seeds only, and the share of equal predictions."""
    old, new = np.array([[1, 2, 3, 4]]), np.array([[1, 2, 3, 5]])
    once = [make_run("digits_mpl", [0.5], seed, predictions={"student": old}) for seed in range(3)]
    again = make_run("digits_quick_mpl", [0.75], 1, predictions={"student": new},
                     environment={"device_name": "another CPU"})  # fmt: skip

    text = again_table(QUICK, arms_on(QUICK, again), {"digits_mpl": once})

    assert text.splitlines()[-1] == "| mpl | 1 | 75.00 | 50.00 | 75.00 | another CPU | a CPU |"
    assert "| mpl | 0 | – |" in again_table(QUICK, arms_on(QUICK, again), {})


def test_seeds_trained_again_by_newer_code_stand_beside_an_older_record() -> None:
    """Settings that are newer or no more, and a time limit, make no other run of a record; another length does."""
    predicted = {"student": np.array([[1, 2, 3, 4]])}
    newer = as_mapping(compose("digits_mpl", [], EXPERIMENTS))
    older = copy.deepcopy(newer)
    del older["engine"]["cuda_graph"]
    older["engine"]["micro_batches"] = 1
    older["budget"]["max_minutes"] = 9.0
    other = newer | {"budget": newer["budget"] | {"steps": 7}}
    again = make_run("digits_quick_mpl", [0.5], 1, predictions=predicted, config=newer)

    found = []
    for config in (older, other):
        once = make_run("digits_mpl", [0.5], 1, predictions=predicted, config=config)
        found.append(again_table(QUICK, arms_on(QUICK, again), {"digits_mpl": [once]}).splitlines()[-1])

    assert ["1", "0"] == [row.split(" | ")[1] for row in found]


def test_the_section_of_seeds_trained_again_compares_no_arms() -> None:
    """It is about the machine; five seeds judge no method."""
    text = section_of(report_on(make_run("digits_quick_mpl", [0.9])).markdown, QUICK.heading)

    assert "equal predictions (%)" in text
    assert "figures/" not in text
    assert "Differences" not in text


def test_arms_on_the_same_examples() -> None:
    """30 examples that only the first gets right, of 1,000, are 3 points; other test data are not compared."""
    runs = [make_run(f"digits_{name}", [0.9], data={"held_out_hash": "same"}) for name in ("mpl_no_feedback", "mpl")]
    hits = [np.arange(1000) < 900, np.arange(1000) < 930]
    arms = [replace(arm, correct={0: hit}) for arm, hit in zip(arms_on(DIGITS, *runs), hits, strict=True)]

    shown = on_test_set_table(DIGITS, arms)
    other = [replace(arms[0], runs=(replace(arms[0].runs[0], data={"held_out_hash": "other"}),)), arms[1]]

    assert "| mpl | 1,000 | [88.0, 91.8] | 30.0 / 0.0 | +3.00 |" in shown
    assert shown.splitlines()[-1].endswith("| 1 / 0 of 1 |")
    assert "" == on_test_set_table(DIGITS, other)


def test_the_readme_groups_what_cannot_run() -> None:
    """Claims without an experiment share a row; the others keep theirs."""
    nowhere = replace(make_claim("no"), rule=Ordering(None, (), 0.0, 1.0), source="Table 9")
    other = replace(nowhere, id="nor", source="Figure 3")
    both = [replace(nowhere, id=source, source=source) for source in ("Table 9 and more", "Table 10")]
    verdict = [Verdict("one", Status.NOT_RUN, "r")]
    text = readme_table([make_claim("one"), nowhere, other], verdict)

    assert "Table 9, Table 9 and more and Table 10" in readme_table([nowhere, *both], verdict)
    assert "| one holds | Table 2 | **NOT RUN** | – |" in text
    assert (
        "| 2 further claims, which this version has no experiment for | Figure 3 and Table 9 | **NOT RUN** | – |"
        in text
    )
