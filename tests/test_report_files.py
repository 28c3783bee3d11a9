"""The report on data sets of many classes, whose hidden labels may be unknown: sections, top-5, what is not known."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from repro.verify.rebuild import Scores

from repro.evaluate.run import EvaluatedRun
from repro.report.groups import FILES, Group
from repro.report.published import read_published
from repro.report.published_sections import published_sections
from repro.report.render import Report, render
from repro.verify.claims import Absolute, read_claims
from repro.verify.rules import judge
from tests.report_cases import make_run, make_scores, section_of

ROOT = Path(__file__).parent.parent / "experiments"
ARMS = {
    "supervised": ("teacher", [0.20, 0.22, 0.21]), "uda": ("teacher", [0.30, 0.31, 0.33]),
    "mpl_no_feedback": ("student", [0.28, 0.31, 0.30]), "mpl": ("student", [0.29, 0.31, 0.31]),
}  # fmt: skip


def runs_of(group: Group, seeds: int, known: bool) -> list[EvaluatedRun]:
    """Four arms of a group, with curves of wrong pseudo labels or without."""
    found = []
    for suffix, (network, finals) in ARMS.items():
        accuracy = {network: finals[:seeds]} | ({"teacher": finals[:seeds]} if network == "student" else {})
        run = make_run(f"{group.prefix}{suffix}", finals[:seeds], counted=network, accuracy=accuracy)
        along = {key.replace("student", network): values for key, values in run.curve.items()}
        kept = {
            key: values for key, values in along.items() if known or key not in {"pseudo_label_wrong", "wrong_stays"}
        }
        found.append(replace(run, curve=kept, boundary={}))
    return found


def with_top5(scores: Scores, more: float) -> Scores:
    """The same scores; so much more is right among five."""
    top5 = {network: {seed: share + more for seed, share in by_seed.items()}
            for network, by_seed in scores.accuracy.items()}  # fmt: skip
    return replace(scores, top5=top5)


def report_on(runs: list[EvaluatedRun]) -> Report:
    """The report on runs that have top-5 accuracies."""
    scores = {run.name: with_top5(make_scores(run), 0.3) for run in runs}
    return render({run.name: [run] for run in runs}, scores, [], [], [])


@pytest.mark.parametrize("group", FILES, ids=lambda group: group.key)
def test_each_has_a_section_with_the_same_tables(group: Group) -> None:
    """From supervised learning to MPL part by part, wrong pseudo labels, networks, and top-5 beside the accuracy."""
    report = report_on(runs_of(group, 3, known=True))
    text = section_of(report.markdown, group.heading)

    assert "### Which part carries it" in text
    assert "### Wrong pseudo labels, with and without feedback" in text
    assert "### Networks of each arm" in text
    assert "is not known" not in text
    assert "| arm | network | seeds | accuracy (%) | top-5 accuracy (%) |" in text
    assert "| mpl | student | 3 | 30.33 ± 2.87 | 60.33 ± 2.87 |" in text
    assert {f"{group.key}_attribution", f"{group.key}_pseudo_labels", f"{group.key}_curves"} <= report.figures.keys()


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("group", FILES, ids=lambda group: group.key)
def test_unknown_classes_are_said_to_be_unknown(group: Group, seeds: int) -> None:
    """No table and no figure of wrong labels, a sentence in their place, and nowhere a NaN."""
    report = report_on(runs_of(group, seeds, known=False))
    text = section_of(report.markdown, group.heading)

    assert "How many pseudo labels are wrong is not known: some unlabelled images have no class on record." in text
    assert "### Wrong pseudo labels" not in text
    assert f"{group.key}_pseudo_labels" not in report.figures
    assert f"{group.key}_curves" in report.figures
    assert not re.search(r"\bnan\b", report.markdown.lower())


def test_one_arm_that_is_unknown_is_named() -> None:
    """Without the reference's curve nothing is compared to it, and no other arm takes its place."""
    known, unknown = (runs_of(FILES[1], 3, known=flag) for flag in (True, False))
    runs = [*known[:2], unknown[2], known[3]]

    text = section_of(report_on(runs).markdown, FILES[1].heading)

    assert "wrong is not known (mpl no feedback): some unlabelled" in text
    assert "### Wrong pseudo labels" not in text


def test_arms_without_top5_have_no_column_of_it() -> None:
    """Up to ten classes the table is what it was."""
    runs = runs_of(FILES[1], 3, known=True)
    scores = {run.name: make_scores(run) for run in runs}

    text = render({run.name: [run] for run in runs}, scores, [], [], []).markdown

    assert "top-5" not in section_of(text, FILES[1].heading)


def test_top5_of_a_run_stands_beside_the_papers() -> None:
    """Table 2's two columns on ImageNet have ours each, judged by its own measure."""
    claims = [
        replace(claim, recipe="", rule=replace(claim.rule, experiment="imagenet_mpl", network="student"))
        if isinstance(claim.rule, Absolute) and claim.id in {"imagenet_10pct_mpl", "imagenet_10pct_mpl_top5"} else claim
        for claim in read_claims(ROOT / "claims.yaml")
    ]  # fmt: skip
    run = make_run("imagenet_mpl", [0.739, 0.7388, 0.7392])
    run = replace(run, config=run.config | {"method": {"name": "mpl"}})
    scores = {run.name: replace(with_top5(make_scores(run), 0.175), reduced=False)}
    rows = read_published((ROOT / "table2.yaml").read_text(), "table2.yaml", claims)

    text = published_sections(rows, scores, claims, [judge(claim, scores) for claim in claims])[2]
    (line,) = [line for line in text.splitlines() if line.startswith("| Meta Pseudo Labels |")]

    assert "| our top-1 accuracy (%) | verdict | our top-5 accuracy (%) | verdict |" in text
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert ["Meta Pseudo Labels", "73.89", "91.38", "authors' own"] == cells[:4]
    assert ["73.90 ± 0.05 over 3 seeds", "91.40 ± 0.05 over 3 seeds"] == cells[4::2]
    assert all("REPRODUCED" in cell and "NOT" not in cell for cell in cells[5::2])
