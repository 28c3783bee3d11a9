"""The report's sections: what they show, what they must not show, and what they say when there is little."""

from __future__ import annotations

from dataclasses import replace

from repro.report.groups import OTHER, grouped
from repro.report.render import render
from repro.verify.claims import Status, Verdict
from tests.report_cases import DIGITS, TUNED, make_claim, make_run, make_scores, report_on, section_of


def test_the_tuned_section_is_not_shown_without_its_control() -> None:
    """Without the h = 0 run the section names it and shows neither number nor picture nor sentence."""
    report = report_on(make_run("moons_tuned_mpl", [0.9876, 0.9876]), make_run("moons_tuned_uda", [0.98, 0.97]))
    text = section_of(report.markdown, TUNED.heading)
    assert "`moons_tuned_mpl_no_feedback` (h = 0) has no result" in text
    assert "Held back: `moons_tuned_uda`, `moons_tuned_mpl`." in text
    assert "98.7" not in report.markdown
    assert {} == report.figures
    assert "What the evidence says" not in report.markdown


def test_a_control_whose_numbers_were_refused_does_not_count() -> None:
    """An h = 0 run of which no seed survived verification suppresses the section like a missing one."""
    runs = [make_run("moons_tuned_mpl", [0.9]), make_run("moons_tuned_mpl_no_feedback", [0.9])]
    scores = {run.name: make_scores(run) for run in runs}
    refused = replace(scores["moons_tuned_mpl_no_feedback"], accuracy={"student": {}}, problems=["refused"])
    report = render({run.name: [run] for run in runs}, scores | {refused.name: refused}, [], [], [])
    assert "Not shown" in section_of(report.markdown, TUNED.heading)


def test_the_tuned_section_is_shown_with_its_control() -> None:
    """With the h = 0 run the section is there, says that it is tuned, and has both rows."""
    runs = [make_run("moons_tuned_mpl", [0.98, 0.97]), make_run("moons_tuned_mpl_no_feedback", [0.96, 0.97])]
    report = report_on(*runs)
    text = section_of(report.markdown, TUNED.heading)
    assert "**Not the paper's setting.**" in text
    assert "| mpl | mpl no feedback | 2 | +1.00 |" in text
    assert "moons_tuned_regions" in report.figures


def test_every_run_appears_once() -> None:
    """Each run is in one group; a name of no group is among the other runs, and is shown there."""
    names = [
        "my_images_mpl",
        "digits_mpl",
        "moons_stated_mpl",
        "moons_feedback_only_exact",
        "moons_sweep_noise_0.1_mpl",
    ]
    assert sorted(names) == sorted(name for _, members in grouped(names) for name in members)
    report = report_on(make_run("my_images_mpl", [0.7, 0.75]))
    assert "| my images mpl | student | 2 |" in section_of(report.markdown, OTHER.heading)


def test_refused_numbers_are_shown_as_refused() -> None:
    """A problem found by verification is printed, and a run without scores is not given its own numbers."""
    run = make_run("digits_mpl", [0.1234])
    refused = render({run.name: [run]}, {run.name: make_scores(run, ("seed 3: hash differs",))}, [], [], []).markdown
    assert "- `digits_mpl`: seed 3: hash differs" in refused
    unscored = render({run.name: [run]}, {}, [], [], []).markdown
    assert "| mpl | student | 0 | – |" in unscored
    assert "not recomputed" in unscored


def test_nothing_has_run() -> None:
    """Without runs the report says so and still lists the claims."""
    verdict = Verdict("c10", Status.NOT_RUN, "no results", missing="60 GPU hours")
    report = render({}, {}, [make_claim("c10", cost="60 GPU hours")], [verdict], [])
    assert "**Nothing has run yet**" in report.markdown
    assert "| c10 holds | Table 2 | **NOT RUN** | no results. Cost: 60 GPU hours. | – |" in report.markdown
    assert {} == report.figures
    assert "Nothing has run yet" in render({}, {}, [], [], []).markdown


def test_pseudo_labels_of_some_examples_are_not_called_those_of_all() -> None:
    """Where curves are drawn from a part of the unlabelled examples, section and caption say of how many."""

    def told(*bounds: int) -> str:
        names = ("digits_mpl", "digits_mpl_no_feedback", "digits_uda")
        budgets = [{"curve_examples": bound} for bound in bounds]
        configs = [{"title": "", "data": {}, "budget": budget, "recipe": {"name": "none"}} for budget in budgets]
        runs = [make_run(name, [0.9, 0.8], config=config) for name, config in zip(names, configs, strict=True)]
        return section_of(report_on(*runs).markdown, DIGITS.heading)

    assert 2 == told(0, 0, 0).count("all unlabelled examples")
    assert 2 == told(1000, 1000, 1000).count("the same 1,000 unlabelled examples at each point")
    assert 2 == told(1000, 0, 0).count("as many unlabelled examples as each run's `budget.curve_examples` says")
