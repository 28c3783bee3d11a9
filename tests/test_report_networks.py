"""Networks and losses of each arm: what is paired with what, and what is drawn."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from repro.evaluate.run import EvaluatedRun
from repro.report.figures_losses import network_curves, training_losses
from repro.report.groups import CIFAR10, OTHER, Group
from repro.report.networks import network_differences_table, networks_table
from tests.report_cases import DIGITS, arms_on, make_run, report_on, section_of

PAPER, RELEASED, _, CPU = CIFAR10
AVERAGED = {
    "teacher": [0.70, 0.80],
    "student": [0.60, 0.70],
    "student_average": [0.72, 0.71],
    "student_finetuned": [0.73, 0.76],
}


def averaged_run(name: str = "cifar10_released_mpl") -> EvaluatedRun:
    """A run of two seeds whose student is averaged and finetuned."""
    curve = {"step": np.array([0, 50, 100])} | {
        f"accuracy/{network}": np.array([[0.1, 0.5, final] for final in finals])
        for network, finals in AVERAGED.items()
        if network != "student_finetuned"
    }
    return make_run(name, AVERAGED["student_average"], counted="student_average", accuracy=AVERAGED, curve=curve)


def lines(axes: Axes) -> dict[str, list[float]]:
    """What a panel of small multiples draws, by the names written in it."""
    names = [text.get_text() for text in axes.texts]
    by_colour = {text.get_color(): name for text, name in zip(axes.texts, names, strict=True)}
    return {by_colour[line.get_color()]: [float(y) for y in np.asarray(line.get_ydata())] for line in axes.lines}


def losses_of(**columns: list[float]) -> EvaluatedRun:
    """A run of one seed with these metrics."""
    return make_run("digits_mpl", [0.9], metrics=pd.DataFrame({"step": [10, 20, 30]} | columns))


def test_networks_stand_side_by_side() -> None:
    """Means over seeds of teacher, student, average and finetuned weights; a dash where an arm lacks one."""
    text = networks_table(arms_on(RELEASED, averaged_run(), make_run("cifar10_released_uda", [0.9], counted="teacher")))

    assert ["arm", "seeds", "teacher", "student", "averaged", "finetuned"] == [
        cell.strip() for cell in text.splitlines()[0].strip("| ").split("|")
    ]
    assert "| mpl | 2 | 75.00 | 65.00 | 71.50 | 74.50 |" == text.splitlines()[-1]


def test_what_averaging_and_finetuning_add_is_paired_by_seed() -> None:
    """Averaged against the same network not averaged; finetuned against the average that it started from."""
    row = network_differences_table(arms_on(RELEASED, averaged_run())).splitlines()[-1]

    # averaged: +12 and +1 points, finetuned: +1 and +5; half = 12.7062 * 7.7782 / sqrt(2), 12.7062 * 2.8284 / sqrt(2)
    assert "| mpl | 2 | +6.50 | [−63.38, +76.38] | +3.00 | [−22.41, +28.41] |" == row


def test_one_seed_gives_no_interval_of_what_finetuning_adds() -> None:
    """With one seed the difference is there, the interval is not."""
    run = make_run("digits_mpl", [0.8], accuracy={"student": [0.8], "student_finetuned": [0.75]})

    assert "| mpl | 1 | −5.00 |" == network_differences_table(arms_on(DIGITS, run)).splitlines()[-1]


def test_arms_with_one_network_need_no_table() -> None:
    """Where no arm has two networks there is neither table nor figure nor heading."""
    arms = arms_on(DIGITS, make_run("digits_uda", [0.9, 0.8]))

    assert ["", "", None] == [networks_table(arms), network_differences_table(arms), network_curves(DIGITS, arms)]
    assert "### Networks" not in report_on(make_run("digits_uda", [0.9, 0.8])).markdown


def test_network_curves_are_the_means_over_seeds() -> None:
    """One line for each network along training, in %."""
    picture = network_curves(RELEASED, arms_on(RELEASED, averaged_run()))

    assert picture is not None
    drawn = lines(picture.figure.axes[0])
    expected = {"teacher": [10, 50, 75], "student": [10, 50, 65], "student, averaged": [10, 50, 71.5]}
    assert expected.keys() == drawn.keys()
    assert all(expected[name] == pytest.approx(drawn[name]) for name in expected)
    assert "teacher 75.0 %, student 65.0 %, student, averaged 71.5 %" in picture.alt


def test_losses_are_those_of_the_log() -> None:
    """Teacher's, UDA's and student's loss are drawn as recorded and named once each."""
    run = losses_of(teacher_labelled_loss=[2.0, 1.0, 0.5], uda_loss=[1.5, 1.2, 1.1], student_loss=[2.2, 2.1, 1.9])
    picture = training_losses(DIGITS, arms_on(DIGITS, run))

    assert picture is not None
    expected = {"labels": [2.0, 1.0, 0.5], "UDA": [1.5, 1.2, 1.1], "pseudo labels": [2.2, 2.1, 1.9]}
    assert expected == lines(picture.figure.axes[0])
    assert "labels 2.00 to 0.50, UDA 1.50 to 1.10, pseudo labels 2.20 to 1.90" in picture.alt


def test_a_loss_that_no_image_entered_is_a_gap() -> None:
    """Exact zeros of a masked loss are not drawn, and the words give the first and last real value."""
    run = losses_of(labelled_loss=[2.0, 1.0, 0.5], unlabelled_loss=[0.0, 0.3, 0.2])
    picture = training_losses(DIGITS, arms_on(DIGITS, run))

    assert picture is not None
    first, *rest = lines(picture.figure.axes[0])["pseudo labels"]
    assert math.isnan(first)
    assert [0.3, 0.2] == rest
    assert "pseudo labels 0.30 to 0.20" in picture.alt


@pytest.mark.parametrize(("first", "last"), [(2.0, 0.5), (0.5, 2.0)])
def test_names_of_lines_do_not_overlap(first: float, last: float) -> None:
    """Three lines that end together, at the bottom or at the top, have three names, apart and beside their panel."""
    run = losses_of(labelled_loss=[first, 1.0, last], uda_loss=[first, 1.1, last], student_loss=[first, 1.2, last])
    picture = training_losses(DIGITS, arms_on(DIGITS, run))

    assert picture is not None
    picture.figure.draw_without_rendering()
    panel = picture.figure.axes[0]
    boxes = sorted((text.get_window_extent() for text in panel.texts), key=lambda box: box.y0)
    assert 3 == len(boxes)
    assert all(lower.y1 <= upper.y0 + 1 for lower, upper in pairwise(boxes))
    assert panel.bbox.y0 - boxes[0].height < boxes[0].y0
    assert boxes[-1].y1 < panel.bbox.y1 + boxes[-1].height


def test_a_reduced_run_judges_orderings_only() -> None:
    """At a CPU's budget arms are compared to h = 0, and the section says that its numbers are not the paper's."""
    runs = [make_run(f"cifar10_cpu_{arm}", [0.6, 0.62]) for arm in ("mpl", "mpl_no_feedback")]
    text = section_of(report_on(*runs).markdown, CPU.heading)

    assert "**A reduced budget, orderings only.**" in text
    assert "| mpl | mpl no feedback | 2 | 0.00 |" in text


@pytest.mark.parametrize("group", [*CIFAR10, DIGITS, OTHER], ids=lambda group: group.key)
def test_groups_of_images_show_losses(group: Group) -> None:
    """Every group whose data are images has the figure of its losses."""
    metrics = pd.DataFrame({"step": [1, 2], "labelled_loss": [2.0, 1.9]})
    run = make_run(f"{group.prefix or 'my_images_'}uda", [0.3], metrics=metrics)

    assert f"{group.key}_losses" in report_on(run).figures
