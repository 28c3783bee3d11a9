"""The report's figures: what is drawn, how it looks, and the curves behind it."""

from __future__ import annotations

import io
import warnings

import numpy as np

from repro.report.arms import arms_of
from repro.report.render import render
from repro.report.series import Series, curve, mean_band, rate_band
from repro.report.style import LOOKS, look
from tests.report_cases import DIGITS, STEPS, make_run, make_scores, report_on


def test_sweeps_are_drawn_by_value() -> None:
    """Each swept setting has its own figure, whose values stand in numerical order."""
    runs = [
        make_run(f"moons_sweep_batch_{value}_{arm}", [0.9, 0.95])
        for value in (128, 32)
        for arm in ("mpl", "supervised")
    ]
    figures = report_on(*runs).figures
    assert ["moons_sweep_batch"] == list(figures)
    labels = [text.get_text() for text in figures["moons_sweep_batch"].axes[0].get_xticklabels()]
    assert ["32", "128"] == labels


def test_refused_folders_are_not_drawn() -> None:
    """Curves of a folder with a refused seed stay out of every figure, those of the other folders are drawn."""
    runs = [make_run("digits_mpl", [0.9]), make_run("digits_mpl", [0.1], first_seed=1)]
    arm = arms_of(DIGITS, ["digits_mpl"], {"digits_mpl": runs}, {"digits_mpl": make_scores(runs[0], ("seed 1: no",))})[
        0
    ]
    assert [[0]] == [run.seeds for run in arm.runs]
    assert {} == render({"digits_mpl": runs}, {}, [], [], []).figures


def test_bands_skip_what_is_not_known() -> None:
    """A NaN leaves out one seed at one step; a step without any value has neither line nor interval."""
    series = Series(STEPS, np.array([[np.nan, 0.5, 0.96], [np.nan, 0.7, np.nan], [np.nan, 0.6, 0.90]]))
    band = mean_band(series)
    assert np.allclose([np.nan, 0.6, 0.93], band.middle, equal_nan=True)
    assert [False, True, True] == np.isfinite(band.low).tolist()
    assert np.allclose([np.nan, 0.0, 0.5], rate_band(series, 0.95).middle, equal_nan=True)


def test_folders_with_different_snapshots_share_their_common_steps() -> None:
    """Seeds from folders with other snapshot steps are joined where both have one."""
    other = {"step": np.array([0, 100, 200]), "accuracy/student": np.array([[0.1, 0.2, 0.3]])}
    joined = curve([make_run("a", [0.8]), make_run("a", [0.7], first_seed=1, curve=other)], "accuracy/student")
    assert joined is not None
    assert [0, 100] == joined.steps.tolist()
    assert [[0.5, 0.8], [0.1, 0.2]] == np.asarray(joined.values).tolist()


def test_links_and_figures_agree_and_have_alt_text() -> None:
    """Every figure is linked once under its key, every link has a figure, and no alt text is empty."""
    arms = ("supervised", "pseudo_label", "mpl", "mpl_no_feedback")
    report = report_on(
        *[make_run(f"{prefix}_{arm}", [0.9, 0.97]) for prefix in ("moons_stated", "digits") for arm in arms]
    )
    links = [line for line in report.markdown.splitlines() if line.startswith("![")]
    assert sorted(f"(figures/{key}.png)" for key in report.figures) == sorted(
        link[link.index("](") + 1 :] for link in links
    )
    assert [] == [link for link in links if link.startswith("![]")]


def test_figures_are_drawn_without_warnings_and_always_the_same() -> None:
    """One seed, NaN and few points draw cleanly, and twice the same input gives the same bytes."""
    runs = [make_run("moons_stated_mpl", [0.9]), make_run("moons_stated_mpl_no_feedback", [0.9, 0.9])]
    images = []
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            drawn = {}
            for key, figure in report_on(*runs).figures.items():
                figure.savefig(buffer := io.BytesIO(), format="png", metadata={"Software": None})
                drawn[key] = buffer.getvalue()
        images.append(drawn)
    assert images[0] == images[1]


def test_looks_are_told_apart_within_each_group() -> None:
    """No two arms of the tuned setting share colour and line, and a suffix always looks the same."""
    tuned = [suffix for suffix in LOOKS if suffix.startswith("mpl") or suffix in ("supervised", "pseudo_label", "uda")]
    assert len(tuned) == len({look(suffix) for suffix in tuned})
    assert look("unheard_of") == look("unheard_of")
