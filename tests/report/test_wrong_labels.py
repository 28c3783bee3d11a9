"""The numbers of confirmation bias: of labels once wrong, how many stay wrong, and over which part of training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from repro.evaluate.evaluate import label_curves
from repro.report.record import Place
from tests.report.cases import ACCURACY, make_run
from tests.report.test_tables import record


def stays(before: np.ndarray, now: np.ndarray, truth: np.ndarray) -> list[list[float]]:
    """The share at two snapshots, by seed."""
    found: list[list[float]] = label_curves(np.stack([before, now], axis=1), truth, [0, 1], 0)["wrong_stays"].tolist()
    return found


def test_the_share_that_stays_is_over_those_wrong_before() -> None:
    """Three of five were wrong; one keeps its wrong class, one is right now, one has another wrong class: a third.

    That is the number of the bias: over those wrong now it would be 1 of 2 in the first row, and 1 of 1 in the second.
    """
    truth = np.array([[0, 0, 0, 1, 2]] * 2)
    before = np.array([[1, 1, 2, 1, 2]] * 2)
    now = np.array([[1, 0, 1, 1, 2], [1, 0, 0, 1, 2]])

    for row in stays(before, now, truth):
        assert [np.nan, 1 / 3] == pytest.approx(row, nan_ok=True)


def test_a_label_that_was_not_wrong_does_not_count() -> None:
    """Wrong now, right before: none stays; where none was wrong there is no share, and none before the first."""
    truth, right = np.array([[0, 1]]), np.array([[0, 1]])

    assert 0.0 == stays(np.array([[0, 0]]), np.array([[1, 1]]), truth)[0][1]
    assert np.isnan(stays(right, np.array([[1, 1]]), truth)).all()


def test_the_bias_is_the_mean_of_the_second_half() -> None:
    """Of four snapshots the last two: 10 and 30, so 20 %; the first two, before anything is learned, do not count."""
    run = make_run("digits_mpl", ACCURACY["digits_mpl"], wrong=[10, 10, 10, 10])
    stays = np.array([[np.nan, 0.9, 0.1, 0.3]] * 3 + [[np.nan, np.nan, np.nan, 0.5]])
    arrays = run.arrays | {"curve.step": np.array([0, 5, 10, 20]), "curve.wrong_stays": stays}
    made = replace(record(), runs={"digits_mpl": replace(run, arrays=arrays)})

    assert {0: 20.0, 1: 20.0, 2: 20.0, 3: 50.0} == pytest.approx(made.percent(Place("digits_mpl", "student", "stays")))
