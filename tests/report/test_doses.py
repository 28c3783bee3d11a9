"""Doses of feedback and planted labels: every number of the tables by hand, from four made-up seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from repro.plan import comparisons
from repro.report import pages
from repro.report.figures import all_figures
from repro.report.pages import readme_rows, verdict_lines
from repro.report.record import Place, Record
from repro.report.tables import doses, own_reference, signs
from repro.report.tables import planted as planted_rows
from tests.report.cases import record

PLANTED, DOSE = comparisons()["digits_planted_random"], comparisons()["digits_dose"]
SEEDS = 4
RIGHT = {"mpl_no_feedback": [50, 60, 40, 50], "mpl_held": [60, 62, 44, 58], "consistency_alone": [10, 10, 20, 20],
         "exact_alone": [30, 20, 20, 30]}  # fmt: skip
"""Arm -> planted wrong labels put right at the end, % by seed; a tenth as many of the right ones are made wrong."""


def planted(right: Mapping[str, Sequence[float]] = RIGHT) -> Record:
    """Three snapshots, at steps 0, 10 and 20; planting ended at step 10, with 40, 42, 44, 46 % wrong."""
    found = record({f"{PLANTED.setting}_{arm}": {"student": [80, 82, 84, 86]} for arm in right}, {})
    for arm, ends in right.items():
        run, nan = found.runs[PLANTED.run(arm)], [np.nan] * SEEDS
        run.config["plant"] = {"steps": 10}
        run.config["method"] |= {"teacher_supervised": not arm.endswith("alone"),
                                 "pseudo_label": "soft" if "exact" in arm else "sampled"}  # fmt: skip
        run.arrays["curve.put_right"] = np.array([nan, [0] * SEEDS, ends]).T / 100
        run.arrays["curve.made_wrong"] = np.array([nan, [0] * SEEDS, ends]).T / 1000
        run.arrays["curve.pseudo_label_wrong"] = np.array([[90] * SEEDS, [40, 42, 44, 46], [30] * SEEDS]).T / 100
        run.arrays["curve.calibration_error.teacher"] = np.array([[50] * SEEDS, [40] * SEEDS, [2, 4, 6, 8]]).T / 100
    return found


def test_planted_rows_by_hand() -> None:
    """Means, differences to the own reference, Holm over the two arms that have one."""
    rows = {row.arm: row for row in planted_rows(planted(), PLANTED)}

    assert list(RIGHT) == list(rows)
    held, gains = rows["mpl_held"], {arm: row.number.gain for arm, row in rows.items() if row.number.gain}
    means = {name: number.mean for name, number in held.others.items()} | {"put_right": held.number.mean}

    assert {"planted": 43, "put_right": 56, "made_wrong": 5.6, "calibration_error": 5, "accuracy": 83} == pytest.approx(
        means
    )
    assert ["mpl_held", "exact_alone"] == list(gains)
    assert (10, 2, 4, 8) == pytest.approx(gains["mpl_held"].differences)
    assert (20, 10, 0, 10) == pytest.approx(gains["exact_alone"].differences)  # to consistency alone, though soft
    made_wrong = held.others["made_wrong"].gain
    assert pytest.approx(0.6) == made_wrong.mean
    p = sorted(gain.p_value for gain in gains.values())
    assert sorted(rows[arm].holm for arm in gains) == pytest.approx([2 * p[0], max(2 * p[0], p[1])])
    at = Place(PLANTED.run("mpl_held"), "student", "planted")
    assert {0: 40, 1: 42, 2: 44, 3: 46} == pytest.approx(planted().percent(at))


def dosed(**more: list[float]) -> Record:
    """Two snapshots after the first; feedback of 1, 2 and 3 % of the other gradients, of exact h half as much.

    `more` has further arms, with feedback of five times that.
    """
    accuracy = {"mpl_no_feedback": [80, 82, 84, 86], "mpl_held": [81, 83, 84, 90], "soft_no_feedback": [70, 72, 74, 76],
                "exact_held": [71, 72, 76, 76]} | more  # fmt: skip
    networks = {DOSE.run(arm): {"teacher": [v + 1 for v in ends], "student": ends} for arm, ends in accuracy.items()}
    log = {"feedback_gradient_norm": [0.01, 0.02, 0.03, 0.02]}
    sizes = {"mpl_held": 1.0, "exact_held": 2.0} | dict.fromkeys(more, 0.2)
    logs = {DOSE.run(arm): log | {"other_gradient_norm": other} for arm, other in sizes.items()}
    found = record(networks, {}, logs)
    for arm in accuracy:
        run = found.runs[DOSE.run(arm)]
        soft = "exact" in arm or "soft" in arm
        run.config["method"] |= {"teacher_supervised": True, "pseudo_label": "soft" if soft else "sampled"}
        run.arrays["curve.signal_to_noise"] = np.array([[9, 0.1, 0.3]] * SEEDS)
        run.arrays["curve.oracle_cosine"] = np.array([[9, 0.5, -0.1]] * SEEDS)
    return found


def test_dose_rows_by_hand() -> None:
    """The first snapshot is left out; soft labels with feedback minus soft ones without, and these minus hard ones."""
    rows = {row.arm: row for row in doses(dosed(), DOSE)}
    held, gains = rows["mpl_held"], {arm: row.number.gain for arm, row in rows.items() if row.number.gain}
    teacher = held.others["teacher"].gain

    assert (2.0, 0.2, 0.2) == pytest.approx((held.share, held.signal_to_noise, held.oracle_cosine))
    assert ["mpl_held", "soft_no_feedback", "exact_held"] == list(gains)
    assert (-10, -10, -10, -10) == pytest.approx(gains["soft_no_feedback"].differences)
    assert [pytest.approx((1, 1, 0, 4))] * 2 == [gains["mpl_held"].differences, teacher.differences]
    assert (1, 0, 2, 0) == pytest.approx(gains["exact_held"].differences)
    assert np.isnan(rows["mpl_no_feedback"].share)
    page = pages.documents(dosed())["feedback.md"]
    assert f"Not complete: {len(DOSE.arms) - 4} of {len(DOSE.arms)} arms have not run." in page
    assert held.holm == pytest.approx(2 * held.number.gain.p_value)  # the larger p is that of exact feedback
    short = page[page.index("## Study 2 in short") : page.index("## Handwritten digits")]
    assert "| held at a tenth, minus h = 0 | +1.50 [−1.26, +4.26] |" in short
    assert "| soft labels minus hard ones, both h = 0 | −10.00 |" in short


def test_the_sign_is_compared_at_one_dose() -> None:
    """The student's accuracy minus that with h reversed: 4 4 2 5 points exact, 1 -1 1 0 sampled, p for both."""
    reversed_ = {"mpl_held_reversed": [80, 84, 83, 90], "exact_held_reversed": [67, 68, 74, 71]}
    found = dosed(**reversed_)

    held, exact = signs(found)

    assert [DOSE.heading] * 2 == [held.setting, exact.setting]
    assert (1, -1, 1, 0) == pytest.approx(held.number.gain.differences)
    assert (4, 4, 2, 5) == pytest.approx(exact.number.gain.differences)
    p = held.number.gain.p_value, exact.number.gain.p_value
    assert (p[0], min(2 * p[1], p[0])) == pytest.approx((held.holm, exact.holm))
    told = "At one dose, it clearly beats the wrong sign in 0 of 1 settings, exact in 1 of 1."
    assert told in readme_rows(found)
    assert f"| {DOSE.heading} | Exact, held at a tenth | 4 |" in pages.documents(found)["feedback.md"]
    worse = dosed(mpl_held_reversed=[85, 88, 87, 95], exact_held_reversed=[75, 76, 80, 81])  # clearly worse
    assert "beats the wrong sign in 0 of 1 settings, exact in 0 of 1." in readme_rows(worse)


def test_the_sign_is_compared_where_labels_were_planted() -> None:
    """Put right with the right sign 60 62 44 58 %, with the other 50 60 40 54 %; students are equal."""
    (row,) = signs(planted(RIGHT | {"mpl_held_reversed": [50, 60, 40, 54]}))

    assert (PLANTED.heading, "mpl_held") == (row.setting, row.arm)
    assert (10, 2, 4, 4) == pytest.approx(row.others["put_right"].gain.differences)
    assert (0, 0, 0, 0) == pytest.approx(row.number.gain.differences)


def test_ratios_that_no_draw_could_tell_are_left_out() -> None:
    """Two of four seeds drew the same labels each time, so signal over noise is 1,001 and more; others count alone."""
    found = dosed()
    found.runs[DOSE.run("mpl_held")].arrays["curve.signal_to_noise"] = np.array(
        [[9, 0.1, 0.3], [9, 1001, 2e6], [9, 1001, 1e9], [9, 0.3, 0.5]]
    )

    row = next(row for row in doses(found, DOSE) if row.arm == "mpl_held")
    assert (0.3, 50) == pytest.approx((row.signal_to_noise, row.left_out))
    assert "are left out (up to 50 % of them here)" in pages.documents(found)["feedback.md"]


def test_a_reference_that_has_not_run_is_none() -> None:
    """Rather than another arm in its place."""
    found = record({DOSE.run("exact_held"): {"student": [80, 82, 84, 86]}}, {})
    found.runs[DOSE.run("exact_held")].config["method"] |= {"teacher_supervised": True, "pseudo_label": "soft"}

    assert "" == own_reference(found, DOSE, "exact_held")


def test_the_figures_show_arms_by_name() -> None:
    """One panel each, with a line or a mark for every arm."""
    found = planted()
    found.runs[PLANTED.run("consistency_alone")].arrays["curve.pseudo_label_wrong"][:, -1] = 0.5
    keys = {one.name: one.figure for one in [*all_figures(found), *all_figures(dosed())]}

    assert {"planted", "dose"} <= keys.keys()
    assert [1 + 1, 1 + 1] == [len(keys[name].axes[0].lines) for name in ("planted", "planted_alone")]  # and zero
    held, _ = keys["planted"].axes[0].lines
    alone, _ = keys["planted_alone"].axes[0].lines
    assert [0, 6] == pytest.approx(held.get_ydata())  # 10 2 4 8 points more than h = 0
    assert [0, -20] == pytest.approx(alone.get_ydata())  # 30 % wrong, with consistency alone 50 %


def test_the_figure_of_doses_joins_those_of_a_form() -> None:
    """Held at a tenth (2 % of the other gradients) and at three tenths (10 %) are one line; exact is another."""
    found = dosed(mpl_held_30=[75, 77, 84, 82])
    axes = next(one.figure for one in all_figures(found) if one.name == "dose").axes[0]
    held, exact, zero = axes.lines
    x, y = held.get_data()

    assert [1.5, -3.5] == pytest.approx(y)
    assert [2, 10] == pytest.approx(x)
    assert [0.75] == pytest.approx(exact.get_ydata())
    assert [0, 0] == list(zero.get_ydata())
    heights = {text.get_text(): text.xy[1] for text in axes.texts}
    assert ["■ old − new, held", "▲ exact, held"] == sorted(heights, key=heights.__getitem__)  # as the lines end


def test_seeds_that_end_five_points_worse_are_counted() -> None:
    """Of differences of −5, −5, 0 and −4 points, two."""
    page = pages.documents(dosed(mpl_held_30=[75, 77, 84, 82]))["feedback.md"]
    row = next(line for line in page.splitlines() if line.startswith(f"| {DOSE.title('mpl_held_30')} |"))

    assert "2 / 0" == row.split(" | ")[-2]


def test_the_figure_of_noise_and_direction_names_its_lines() -> None:
    """Solid: h as it is, and the expected direction; dashed: h less its mean, and the direction of one draw."""
    found = record({DOSE.run("mpl"): {"student": [80, 82, 84, 86]}}, {})
    curves = {"signal_to_noise": 0.1, "signal_to_noise_baseline": 0.2, "oracle_cosine": 0.5, "oracle_cosine_drawn": 0.3}
    for name, value in curves.items():
        found.runs[DOSE.run("mpl")].arrays[f"curve.{name}"] = np.full((SEEDS, 3), value)

    figure = next(one.figure for one in all_figures(found) if one.name == "quality")
    drawn = [{line.get_linestyle(): round(float(np.ravel(line.get_ydata())[-1]), 6) for line in axes.lines[:2]}
             for axes in figure.axes]  # fmt: skip
    said = [[text.get_text().split(" ", 1)[-1] for text in axes.texts] for axes in figure.axes]

    assert [{"-": 0.1, "--": 0.2}, {"-": 0.5, "--": 0.3}] == drawn
    assert [{"h as it is", "h less its\n     mean"}, {"expected", "of one draw"}] == [set(one) for one in said]
    marks = [dict(one.get_text().split(" ", 1)[::-1] for one in axes.texts) for axes in figure.axes]
    assert "●●" == marks[0]["h as it is"] + marks[1]["expected"]  # the mark of the solid line


def test_the_third_answer_is_of_planted_labels() -> None:
    """In how many settings an arm clearly puts more right, after Holm; the largest gain beside labels, and Mixup's."""
    arms = {"mpl": [50, 61, 39, 51], "soft_no_feedback": [50, 60, 40, 50], "exact_held": [70, 81, 59, 71],
            "feedback_alone": [30, 29, 41, 40], "exact_alone": [9, 9, 20, 18],
            "mixup_no_feedback": [53, 63, 44, 54]}  # fmt: skip
    found, fewer = planted(RIGHT | arms), planted()

    answer, told = pages.answers(found, [])["planted"], " ".join(verdict_lines(found))

    assert {"mpl": "0 of 1", "mpl_held": "0 of 1", "exact_held": "1 of 1", "feedback_alone": "1 of 1",
            "exact_alone": "0 of 1"} == answer["clearly"]  # fmt: skip
    assert ("digits, random", "exact_held", "mixup_no_feedback") == (
        answer["name"], answer["most"].arm, answer["mixup"].arm
    )  # fmt: skip
    said = "right in 0 of 1 settings (held at a tenth: 0; exact: 1)."
    assert f"Beside labels, feedback clearly puts more planted wrong labels {said}" in told
    assert "Where the teacher sees no labels: 1 of 1 (exact: 0 of 1)" in told
    assert f"feedback clearly puts more [planted wrong labels](results/bias.md) {said}" in readme_rows(found)
    report = pages.documents(found)["REPORT.md"]
    assert "feedback puts +20.25 [+18.73, +21.77] points more right (Exact, held at a tenth; digits, random" in report
    assert "without feedback puts +3.50 [+2.58, +4.42] more right there (p = " in report
    assert {} == pages.answers(fewer, [])["planted"]
    assert "lanted" not in readme_rows(fewer)


def test_the_largest_gain_is_of_feedback_beside_labels_in_any_setting() -> None:
    """Neither Mixup's, nor of a teacher that sees no labels, however large."""
    arms = {"mpl": [50, 61, 39, 51], "exact_held": [51, 61, 41, 52], "soft_no_feedback": [50, 60, 40, 50],
            "feedback_alone": [90, 91, 92, 95], "mixup_no_feedback": [93, 93, 94, 94]}  # fmt: skip
    found, other = planted(RIGHT | arms), planted(RIGHT | arms | {"mpl": [60, 71, 49, 61]})
    for kind in ("runs", "scores"):
        more = {name.replace("_random_", "_pair_"): one for name, one in getattr(other, kind).items()}
        getattr(found, kind).update(more)

    answer = pages.answers(found, [])["planted"]

    assert ("digits, a pair", "mpl") == (answer["name"], answer["most"].arm)
    assert "1 of 2" == answer["clearly"]["mpl"]


def test_nothing_is_said_of_planted_labels_where_the_references_are_missing() -> None:
    """All four arms have run, but h = 0 has not, or was refused: there is no gain, and the report is made."""
    arms = {arm: [50, 61, 39, 51] for arm in (*pages.PLANTED_ARMS, "consistency_alone")}

    found = planted(arms)

    assert {} == pages.answers(found, [])["planted"]
    assert "lanted wrong labels" not in pages.documents(found)["REPORT.md"]


def test_every_setting_that_plants_wrong_labels_is_told_of() -> None:
    """None is left out of the third answer because of what it shows."""
    assert {name for name in comparisons() if "planted" in name} == set(pages.PLANTED)
