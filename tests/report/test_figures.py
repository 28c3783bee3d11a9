"""What the figures draw: numbers that a tiny record gives, networks by name, text that can be read at half size."""

from __future__ import annotations

from functools import cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from repro.report.drawing import FIGURES, Drawn, as_pictures
from repro.report.figures import all_figures
from repro.report.record import Record
from tests.report.cases import ROOT, record

FOLDER = ROOT / "results/figures"
LOGS = {"digits_mpl": {"feedback_gradient_norm": [0.01, 0.02, 0.02, 0.04], "other_gradient_norm": 0.5}}


def moons_with_regions() -> Record:
    """Three data sets of two moons."""
    with_h, without = {"student": [99.0, 80.0, 97.0]}, {"student": [70.0, 80.0, 90.0]}
    moons = record({"moons_tuned_mpl": with_h, "moons_tuned_mpl_no_feedback": without}, {})
    for run in moons.runs.values():
        grid = np.tile(np.linspace(0, 255, 8), (3, 6, 1)).astype(np.uint8)
        run.arrays.update(
            {f"boundary.{key}": value for key, value in {
                "x": np.linspace(-1, 2, 8), "y": np.linspace(-1, 1, 6), "student": grid,
                "points": np.zeros((3, 5, 2)), "classes": np.tile([0, 1, 1, 0, 1], (3, 1)),
                "labelled": np.zeros((3, 2, 2)), "labels": np.tile([0, 1], (3, 1))}.items()}
        )  # fmt: skip
    return moons


@cache
def drawn() -> dict[str, Drawn]:
    """The figures of the made-up record, and of two moons with decision regions."""
    found = [*all_figures(moons_with_regions()), *all_figures(record(logs=LOGS))]
    return {one.key: one for one in found}


def test_runs_that_kept_less_are_drawn_as_far_as_they_go() -> None:
    """One data set of an arm, and the last snapshot alone: each beside what the other arm has there."""
    moons = moons_with_regions()
    run = moons.runs["moons_tuned_mpl"]
    of_seeds = ("student", "points", "classes", "labelled", "labels")
    run.arrays.update({f"boundary.{name}": run.arrays[f"boundary.{name}"][:1] for name in of_seeds})
    digits = record(logs=LOGS)
    mpl = digits.runs["digits_mpl"]
    mpl.arrays.update({name: value[..., -1:] for name, value in mpl.arrays.items() if name.startswith("curve.")})
    regions, wrong = (next(one for one in all_figures(of) if one.key == key).figure for of, key in (
        (moons, "two_moons_regions_tuned"), (digits, "digits_wrong_labels")))  # fmt: skip

    assert 2 == len(regions.axes)
    line = wrong.axes[0].lines[0]
    assert ([20.0], [-1.0]) == (np.ravel(line.get_xdata()).tolist(), np.round(np.ravel(line.get_ydata()), 6).tolist())


def texts(figure: Figure) -> list[str]:
    """All that is written in a figure."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_text().strip()]  # type: ignore[union-attr]


def ticks(axes: Axes) -> list[str]:
    """The names along the y axis."""
    return [label.get_text() for label in axes.get_yticklabels()]


def test_each_figure_stands_on_its_page() -> None:
    """Digits give five figures, two moons three with their regions; two stand over all data sets."""
    assert {
        "feedback_everywhere", "digits_attribution", "digits_differences", "digits_curves",
        "digits_wrong_labels", "digits_feedback", "two_moons_curves", "two_moons_success", "two_moons_regions_tuned",
    } == set(drawn())  # fmt: skip
    assert ["", "digits", "two_moons"] == sorted({one.page for one in drawn().values()})


def test_the_waterfall_shows_levels_gains_and_networks() -> None:
    """Bars from 83 over 91.5 and 89 to 90 %; the numbers with their intervals; the network of each part."""
    axes = drawn()["digits_attribution"].figure.axes[0]
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]  # type: ignore[attr-defined]

    assert [(83.0, 91.5), (91.5, 89.0), (89.0, 90.0), (90.0, 92.0)] == [tuple(np.round(bar, 6)) for bar in bars]
    values = {"83.00 %, 4 seeds", "+8.50 [+6.45, +10.55]", "−2.50 [−3.42, −1.58]", "+1.00 [−1.25, +3.25]", "+2.00"}
    assert values <= set(texts(drawn()["digits_attribution"].figure))
    assert ["", "////", "", ""] == [bar.get_hatch() or "" for bar in axes.patches]  # losses
    spans = [np.round(np.array(line.get_xdata(), float), 2).tolist() for line in axes.lines]
    assert all(one in spans for one in ([89.45, 93.55], [88.08, 89.92], [87.75, 92.25]))  # around the ends of bars
    assert "+ feedback h (student)" in ticks(axes)
    assert "+ finetuning (student, finetuned)" in ticks(axes)


def test_differences_have_intervals_seeds_as_dots_and_arrows_for_what_is_far() -> None:
    """MPL: 1 within -1.25 and 3.25, four dots; supervised learning, 6 points below, is an arrow at the edge."""
    axes = drawn()["digits_differences"].figure.axes[0]
    lines = [np.round(np.array(line.get_xdata(), float), 2).tolist() for line in axes.lines]

    assert ["Supervised (teacher)", "UDA (teacher alone) (teacher)", "MPL (old - new loss) (student)"] == ticks(axes)
    assert [-1.25, 3.25] in lines
    assert [1, 0, 0, 3] in lines  # the seeds
    assert {"<"} == {str(line.get_marker()) for line in axes.lines if len(np.ravel(line.get_ydata())) == 1} & {"<", ">"}


def test_curves_and_bands_are_means_over_seeds() -> None:
    """The student's mean of 88 88 90 90; wrong labels minus those of h = 0, -1 at the end, within its band."""
    curves = drawn()["digits_curves"].figure.axes[0]
    ends = [np.round(np.asarray(line.get_ydata(), float)[-1], 6) for line in curves.lines]
    wrong = drawn()["digits_wrong_labels"].figure.axes[0]

    assert {83.0, 91.5, 89.0, 90.0} == set(ends)
    assert [91.5, 91.5] == [end for end, line in zip(ends, curves.lines, strict=True) if line.get_linestyle() == "--"]
    assert {"● supervised", "▲ UDA", "□ h = 0, teacher", "■ h = 0, student", "◇ MPL, teacher", "◆ MPL, student"} <= set(
        texts(drawn()["digits_curves"].figure)
    )  # a hollow mark where the network does not count
    assert [0, 0, -1] == np.round(np.asarray(wrong.lines[0].get_ydata(), float), 6).tolist()
    assert wrong.collections


def test_size_of_feedback_is_drawn_relative_to_the_other_gradients() -> None:
    """Medians of 2, 4, 4 and 8 %; a gradient that is rounding is said to be zero."""
    axes = drawn()["digits_feedback"].figure.axes[0]
    zero = {"digits_mpl": {"feedback_gradient_norm": 1e-9}}
    other = next(one for one in all_figures(record(logs=zero)) if one.name == "feedback")

    assert 4.0 in [round(float(np.ravel(line.get_xdata())[0]), 6) for line in axes.lines]
    assert "norm of the feedback's gradient\n(% of the teacher's other gradients)" == axes.get_xlabel()
    assert "zero but for rounding" in texts(other.figure)


def test_success_and_regions_show_every_data_set_that_the_rule_chooses() -> None:
    """Two of three data sets at 95 %; regions of the first three with their accuracies, good or bad."""
    regions = "\n".join(texts(drawn()["two_moons_regions_tuned"].figure)).splitlines()

    success = drawn()["two_moons_success"].figure
    rates = [round(float(np.ravel(line.get_xdata())[0]), 1) for line in success.axes[0].lines]

    assert {"2 of 3", "0 of 3"} <= set(texts(success))
    assert {66.7, 0.0} <= set(rates)
    assert {"data set 0: 99.0 %", "data set 1: 80.0 %", "data set 2: 97.0 %", "data set 0: 70.0 %"} <= set(regions)


def test_the_overview_compares_mpl_with_h_0_in_every_setting() -> None:
    """Accuracy +1, wrong labels -1, with network and seeds."""
    found = texts(drawn()["feedback_everywhere"].figure)

    assert {"+1.00 [−1.25, +3.25]", "−1.00 [−2.30, +0.30]"} <= set(found)
    assert "Handwritten digits, 50 labels\nstudent, 4 seeds" in found


def test_text_can_be_read_on_a_phone() -> None:
    """Ten points in a figure of 4.5 inches are 11 pixels where it is 358 pixels wide."""
    for one in drawn().values():
        sizes = [text.get_fontsize() for text in one.figure.findobj(Text) if text.get_text().strip()]  # type: ignore[union-attr]

        assert min(sizes) / 72 / one.figure.get_figwidth() * 358 >= 11, one.key


def test_pictures_are_the_same_each_time() -> None:
    """The same drawing gives the same bytes, as PNG and as SVG."""
    first, second = (as_pictures(all_figures(record({"digits_mpl": {"student": [90.0, 91.0]}}, {}))) for _ in range(2))

    assert first
    assert first == second


def test_every_figure_has_a_question_and_a_caption() -> None:
    """Captions stand in one template, one for each registered figure and no other."""
    text = (ROOT / "repro/report/templates/captions.j2").read_text()

    assert drawn()
    assert {maker.name for maker in FIGURES} == {line.split('"')[1] for line in text.splitlines() if '": ("' in line}


def test_recorded_figures_are_few_and_lie_as_png_and_svg() -> None:
    """At most 25, none without its other form; none much wider than its 4.5 inches, which would shrink its text."""
    png, svg = ({path.stem for path in FOLDER.glob(f"*.{kind}")} for kind in ("png", "svg"))

    assert png == svg
    assert 0 < len(png) <= 25
    for name in png:
        with Image.open(FOLDER / f"{name}.png") as image:
            assert 700 <= image.width <= 800, name
