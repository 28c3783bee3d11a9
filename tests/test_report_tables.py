"""The report's tables: their rows, and the numbers in them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from repro.config import as_mapping
from repro.evaluate.run import EvaluatedRun
from repro.report.numbers import p_value, signed, table
from repro.report.provenance import cost_table, provenance
from repro.report.series import curve
from repro.report.tables import arms_table, checkpoints_table, departures_table, selection_excess
from tests.report_cases import DIGITS, STATED, arms_on, first_cells, make_run
from tests.tiny import METHODS, settings


def test_arms_table_has_exactly_the_arms_given_in_fixed_order() -> None:
    """Each arm has one row, known ones in the order of `LOOKS`, unknown ones last."""
    runs = [make_run(f"digits_{suffix}", [0.8, 0.9]) for suffix in ("zebra", "mpl", "supervised", "mpl_no_feedback")]
    actual = first_cells(arms_table(DIGITS, arms_on(DIGITS, *runs)))
    assert ["supervised", "mpl no feedback", "mpl", "zebra"] == actual


def test_arms_table_numbers() -> None:
    """Mean, t interval, success rates and their exact intervals are those of hand-checked values."""
    run = make_run("moons_stated_mpl", [0.90, 0.96, 0.97, 1.00])
    row = arms_table(STATED, arms_on(STATED, run)).splitlines()[-1]
    # mean 95.75; sd 4.1932; t(0.975, 3) = 3.1824; half = 3.1824 * 4.1932 / 2. Clopper-Pearson for 3 and 1 of 4.
    assert "| mpl | student | 4 | 95.75 ± 6.67 | 75 [19.4, 99.4] | 25 [0.6, 80.6] |" == row


def test_runs_with_the_same_title_are_told_apart() -> None:
    """A title that two arms share is followed by the run's name."""
    runs = [make_run("digits_mpl", [0.9], title="MPL"), make_run("digits_mpl_long", [0.9], title="MPL")]
    assert ["MPL (digits_mpl)", "MPL (digits_mpl_long)"] == [arm.title for arm in arms_on(DIGITS, *runs)]


def test_choice_by_test_accuracy_is_sized_seed_by_seed() -> None:
    """The excess is the mean over seeds of best minus final, not best mean minus final mean."""
    run = make_run("digits_mpl", [0.80, 1.00])  # best 0.9 and 1.0
    arm = arms_on(DIGITS, run)[0]
    series = curve([run], "accuracy/student")
    assert series is not None
    assert 5.0 == pytest.approx(selection_excess(series)[0])
    assert checkpoints_table([arm]).splitlines()[-1].endswith("| 90.00 | 95.00 | +5.00 | [−58.53, +68.53] |")


def test_checkpoints_show_every_choice_side_by_side() -> None:
    """The averaged network counts; last weights, the median of late checkpoints and the best stand beside it."""
    run = make_run("digits_mpl", [0.80, 0.90], counted="student_average")
    curve_of = run.curve | {
        "accuracy/student_average": run.curve["accuracy/student"],
        "late_step": np.arange(98, 101),
        "late_accuracy": np.array([[0.5, 0.6, 0.9], [0.7, 0.8, 0.8]]),
    }
    accuracy = {"student": [0.7, 0.8], "student_average": [0.8, 0.9]}
    arm = arms_on(DIGITS, replace(run, curve=curve_of, accuracy=accuracy))[0]

    header, _, row = checkpoints_table([arm]).splitlines()

    assert "| arm | final | final, last weights | final, averaged | median of last 20 | best on test |" in header
    assert row.startswith("| mpl | 85.00 | 75.00 | 85.00 | 70.00 | 90.00 | +5.00 |")


def test_identical_departures_share_a_row() -> None:
    """A departure of all arms has one row; one of a single arm names it; settled ones come first."""
    recipe = {"name": "paper", "values": {"optim.average_decay": 0.5}, "open": {"data.labels": "not given"}}

    def run(method: str, decay: float) -> EvaluatedRun:
        config = settings("digits", METHODS[method], optim__average_decay=decay, recipe=recipe)
        return make_run(f"digits_{method}", [0.9], config=as_mapping(config))

    rows = departures_table(arms_on(DIGITS, run("mpl", 0.1), run("uda", 0.5))).splitlines()[2:]
    expected = [
        "| `optim.average_decay` | 0.5 | 0.1 | departs | mpl |",
        "| `data.labels` | not given | 20 | left open | all |",
    ]
    assert expected == rows


def test_provenance_names_every_device_and_unclean_code() -> None:
    """Two devices give two rows, and uncommitted changes stand out."""
    gpu = {"revision": "fedcba9876543210", "clean": False, "device_name": "a GPU", "finished": "2030-01-02T03:04:05"}
    runs = {"a": [make_run("a", [0.9])], "b": [make_run("b", [0.9, 0.8], environment=gpu)]}
    text = provenance(runs)
    assert "2 runs over 3 trained seeds, finished 2030-01-02." in text
    assert "| a CPU | unknown | `0123456789` | none | 1 | 60 s |" in text
    assert "| a GPU | unknown | `fedcba9876` | **yes** | 1 | 0 s |" in text


def test_cost_is_the_time_of_one_seed() -> None:
    """60 seconds for a folder of two seeds are 30 a seed; settings have a row each."""
    runs = {name: [make_run(name, finals)] for name, finals in {"digits_mpl": [0.9, 0.8], "digits_uda": [0.9]}.items()}
    lines = cost_table(runs | {"moons_stated_mpl": [make_run("moons_stated_mpl", [0.9])]}).splitlines()[2:]

    assert "| Handwritten digits, few labels | a CPU | 2 | 3 | 0 | 30.0 to 60.0 s |" in lines
    assert 2 == len(lines)


def test_numbers_are_written_with_sign_and_dash() -> None:
    """Differences have a sign or are zero, tiny p-values are bounded, the unknown is a dash, pipes are escaped."""
    assert ["+0.57", "−0.50", "0.00", "–"] == [signed(0.57), signed(-0.5), signed(-0.001), signed(math.nan)]
    assert ["< 0.001", "0.034", "–"] == [p_value(1e-9), p_value(0.0341), p_value(math.nan)]
    assert "| a |\n| --- |\n| b \\| c |" == table(["a"], [["b |\nc"]])
