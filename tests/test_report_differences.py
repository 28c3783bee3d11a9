"""Differences between arms: what is paired with what, and what has no interval."""

from __future__ import annotations

import math

import pytest

from repro.report.arms import arms_of
from repro.report.differences import differences
from repro.report.swept import reference_name
from repro.report.tables import arms_table
from repro.verify.statistics import paired_difference
from tests.report_cases import DIGITS, SWEEP, arms_on, make_run, make_scores, report_on, section_of


def test_a_single_seed_gives_no_interval() -> None:
    """One seed gives a mean, and neither ± nor interval nor p-value."""
    runs = [make_run("digits_mpl", [0.9]), make_run("digits_mpl_no_feedback", [0.8])]
    arms = arms_on(DIGITS, *runs)
    assert "| mpl | student | 1 | 90.00 |" == arms_table(DIGITS, arms).splitlines()[-1]
    text = section_of(report_on(*runs).markdown, DIGITS.heading)
    assert "| mpl | mpl no feedback | 1 | +10.00 | – | – |" in text


def test_differences_are_paired_and_corrected_by_holm() -> None:
    """The smallest of three p-values is tripled, the next doubled, and none falls below one before it."""
    base = [0.80, 0.85, 0.90, 0.95]
    gains = {"mpl": [0.02, 0.03, 0.02, 0.03], "uda": [0.01, 0.03, 0.02, 0.03], "mpl_reversed": [0.01, -0.02, 0.01, 0.0]}
    arms = [make_run(f"digits_{arm}", [b + g for b, g in zip(base, gain, strict=True)]) for arm, gain in gains.items()]
    found = differences(DIGITS, arms_on(DIGITS, make_run("digits_mpl_no_feedback", base), *arms))
    raw = {
        arm: paired_difference(dict(enumerate(gain)), dict.fromkeys(range(4), 0.0)).p_value
        for arm, gain in gains.items()
    }
    expected = {"digits_mpl": 3 * raw["mpl"], "digits_uda": 2 * raw["uda"], "digits_mpl_reversed": raw["mpl_reversed"]}
    assert expected == pytest.approx({d.name: d.corrected_p for d in found}, rel=1e-6)
    assert 2.5 == pytest.approx(next(d.mean for d in found if d.name == "digits_mpl"))


def test_different_data_are_not_paired() -> None:
    """Arms with the same seed numbers but other training data get no difference."""
    runs = [make_run("digits_mpl", [0.9, 0.92]), make_run("digits_mpl_no_feedback", [0.8, 0.81])]
    scores = {run.name: make_scores(run, training_hash=run.name) for run in runs}
    arms = arms_of(DIGITS, list(scores), {run.name: [run] for run in runs}, scores)
    assert [0] == [difference.n for difference in differences(DIGITS, arms)]
    assert math.isnan(differences(DIGITS, arms)[0].mean)


def test_a_sweep_compares_at_the_same_value() -> None:
    """The reference of a swept run has the same noise, whatever way the value is written."""
    assert "moons_sweep_noise_0.2_supervised" == reference_name(SWEEP, "moons_sweep_noise_0.2_mpl_no_feedback")
    assert "moons_sweep_batch_32_supervised" == reference_name(SWEEP, "moons_sweep_batch_32_mpl")


def test_a_missing_reference_is_named() -> None:
    """Without the reference no difference is shown, and the report says which run is missing."""
    text = section_of(report_on(make_run("digits_mpl", [0.9, 0.8])).markdown, DIGITS.heading)
    assert "No result of the reference `digits_mpl_no_feedback`" in text
