"""Which part carries it, and what feedback does to wrong pseudo labels: paired numbers by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from repro.report.arms import Arm
from repro.report.attribution import attribution, attribution_table, waterfall
from repro.report.bias import bias_sentence, bias_table, biases
from repro.report.numbers import signed
from tests.report_cases import DIGITS, STEPS, arms_on, make_run


def arm(suffix: str, **networks: list[float]) -> Arm:
    """An arm with these accuracies of its networks, a seed each."""
    run = make_run(f"digits_{suffix}", next(iter(networks.values())), counted=next(iter(networks)), accuracy=networks)
    return arms_on(DIGITS, run)[0]


WHOLE = [
    arm("supervised", teacher=[0.80, 0.82, 0.81]),
    arm("uda", teacher=[0.90, 0.91, 0.92]),
    arm("mpl_no_feedback", student=[0.88, 0.90, 0.89], teacher=[0.90, 0.91, 0.92]),
    arm("mpl", student=[0.89, 0.90, 0.91], student_finetuned=[0.88, 0.88, 0.88]),
    arm("mpl_average", student_average=[0.90, 0.91, 0.93], student=[0.1] * 3, student_finetuned=[0.91, 0.92, 0.93]),
]


def test_each_part_is_paired_with_the_one_before() -> None:
    """Differences by hand; averaging and finetuning come from the arm that has both."""
    steps = attribution(WHOLE)

    sources = ["supervised, teacher", "uda, teacher", "mpl_no_feedback, student", "mpl, student",
               "mpl_average, student_average", "mpl_average, student_finetuned"]  # fmt: skip
    assert sources == [step.source for step in steps]
    assert math.isnan(steps[0].mean)
    assert pytest.approx([10.0, -2.0, 1.0, 4 / 3, 2 / 3]) == [step.mean for step in steps[1:]]
    # feedback adds 1, 0, 2 points: sd 1, t(0.975, 2) = 4.3027, half = 4.3027 / sqrt 3
    assert pytest.approx((1 - 2.4841, 1 + 2.4841), abs=1e-4) == (steps[3].low, steps[3].high)


def test_the_whole_is_the_sum_of_its_parts() -> None:
    """Over the same seeds the parts add up to the last row."""
    steps = attribution(WHOLE)

    assert "| **All of it** |  | 3 | – | +11.00 |" in attribution_table(steps)
    assert pytest.approx(11.0) == sum(step.mean for step in steps[1:])


def test_averages_of_the_same_run_come_first() -> None:
    """Where MPL itself averages its weights, its own networks show what averaging adds."""
    averaged = arm("mpl", student_average=[0.92] * 3, student=[0.90] * 3)

    steps = attribution([*WHOLE[:3], averaged])

    assert "mpl, student_average" == steps[-1].source


@pytest.mark.parametrize("missing", ["supervised", "uda", "mpl_no_feedback", "mpl"])
def test_without_a_main_part_nothing_is_attributed(missing: str) -> None:
    """A waterfall with a hole would credit one part with another's gain."""
    assert [] == attribution([one for one in WHOLE if one.suffix != missing])


def test_the_waterfall_says_what_it_shows() -> None:
    """Every part has its label and its number, in the picture and in the words for those who cannot see it."""
    steps = attribution(WHOLE)
    picture = waterfall(DIGITS, steps)
    axes = picture.figure.axes[0]

    assert ["80.0", *[f"{step.title.split(' [')[0]}: {signed(step.mean)}" for step in steps[1:]]][1] in picture.alt
    assert len(steps) == len(axes.get_yticks())
    assert {signed(step.mean) for step in steps[1:]} <= {text.get_text().split(" ")[0] for text in axes.texts}
    assert 5 == len(axes.patches)


def bias_arm(suffix: str, wrong: list[float], stays: float = 0.5) -> Arm:
    """An arm whose wrong pseudo labels end at these shares, a seed each."""
    along = np.array([[0.9, 0.5, end] for end in wrong])
    kept = np.where(STEPS == 0, np.nan, np.full_like(along, stays))
    run = make_run(f"digits_{suffix}", [0.9] * len(wrong))
    curve = run.curve | {"pseudo_label_wrong": along, "wrong_stays": kept}
    return arms_on(DIGITS, replace(run, curve=curve))[0]


def test_wrong_pseudo_labels_are_compared_seed_by_seed() -> None:
    """2 points fewer in every seed but for a tenth: an interval that excludes 0, and a sentence that says fewer."""
    found = biases(
        DIGITS, [bias_arm("mpl_no_feedback", [0.10, 0.20, 0.30]), bias_arm("mpl", [0.08, 0.181, 0.279], 0.4)]
    )

    assert ["mpl no feedback", "mpl"] == [one.arm.title for one in found]
    assert pytest.approx(-2.0) == found[1].wrong_difference[0]
    assert found[1].wrong_difference[2] < 0
    assert "there are fewer wrong pseudo labels at the end than without: −2.00 points" in bias_sentence(found)
    assert "| mpl | 3 | 18.00 | −2.00 |" in bias_table(found)
    assert pytest.approx((50.0, 40.0)) == (found[0].stays, found[1].stays)


def test_a_difference_that_may_be_nothing_is_called_so() -> None:
    """An interval that holds 0 is neither fewer nor more."""
    found = biases(DIGITS, [bias_arm("mpl_no_feedback", [0.10, 0.20, 0.30]), bias_arm("mpl", [0.12, 0.18, 0.31])])

    assert "not shown to be fewer or more wrong pseudo labels" in bias_sentence(found)


def test_without_control_there_is_no_bias_to_speak_of() -> None:
    """MPL's wrong labels alone say nothing about feedback."""
    assert [] == biases(DIGITS, [bias_arm("mpl", [0.1, 0.2])])
    assert [] == biases(DIGITS, [bias_arm("mpl_no_feedback", [0.1, 0.2])])
    assert "" == bias_sentence([])
