"""The report: what it shows, what it must not show, and what it says when there is little."""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from repro.evaluate.run import EvaluatedRun
from repro.report.arms import Arm, arms_of
from repro.report.differences import differences
from repro.report.groups import GROUPS, OTHER, Group, grouped, reference_name
from repro.report.numbers import p_value, signed, table
from repro.report.provenance import provenance
from repro.report.render import Report, render
from repro.report.series import Series, curve, mean_band, rate_band
from repro.report.style import LOOKS, look
from repro.report.tables import arms_table, checkpoints_table, departures_table, selection_excess
from repro.report.verdicts import verdict_lines, verdict_table
from repro.verify.claims import Absolute, Claim, Ordering, Origin
from repro.verify.rebuild import Scores
from repro.verify.statistics import paired_difference
from repro.verify.verdict import Status, Verdict

STEPS = np.array([0, 50, 100])
STATED, TUNED, FEEDBACK_ONLY, SWEEP, _, DIGITS = GROUPS


def make_run(name: str, finals: list[float], first_seed: int = 0, title: str = "", **changes: object) -> EvaluatedRun:
    """A run whose accuracy rises from 0.5 over 0.9 to `finals`, one for each seed."""
    seeds = list(range(first_seed, first_seed + len(finals)))
    rising = np.array([[0.5, 0.9, final] for final in finals])
    grid = np.tile(np.linspace(0, 255, 5), (1, 4, 1)).astype(np.uint8)
    values: dict[str, object] = {
        "name": name,
        "seeds": seeds,
        "config": {"title": title, "data": {}, "budget": {}, "recipe": {"name": "none"}},
        "counted": "student",
        "predictions": {},
        "accuracy": {"student": finals},
        "data": {},
        "environment": {"revision": "0123456789abcdef", "clean": True, "device_name": "a CPU", "seconds": 60.0},
        "departures": [],
        "metrics": pd.DataFrame(
            {"step": [50, 100], "feedback": [0.1, 0.2], "feedback_spread": [0.3, 0.3], "noise_floor": [0.0, math.nan]}
        ),
        "curve": {
            "step": STEPS,
            "accuracy/student": rising,
            "pseudo_label_wrong": 1 - rising,
            "wrong_stays": np.where(STEPS == 0, np.nan, rising),
        },
        "boundary": {
            "x": np.linspace(-1, 2, 5),
            "y": np.linspace(-1, 1, 4),
            "points": np.zeros((1, 3, 2)),
            "classes": np.array([[0, 1, 1]]),
            "labelled": np.zeros((1, 2, 2)),
            "labels": np.array([[0, 1]]),
            "student": grid,
        },
    }
    return EvaluatedRun(**(values | changes))  # type: ignore[arg-type]


def make_scores(run: EvaluatedRun, problems: tuple[str, ...] = (), training_hash: str = "h") -> Scores:
    """Scores that repeat what the run says of itself."""
    accuracy = {network: dict(zip(run.seeds, values, strict=True)) for network, values in run.accuracy.items()}
    return Scores(
        name=run.name,
        config=run.config,
        counted=run.counted,
        accuracy=accuracy,
        correct={},
        departures=[],
        problems=list(problems),
        reduced=True,
        held_out=1000,
        training_hash={tuple(run.seeds): training_hash},
    )


def report_on(*runs: EvaluatedRun) -> Report:
    """The report on these runs, without claims."""
    return render({run.name: [run] for run in runs}, {run.name: make_scores(run) for run in runs}, [], [])


def arms_on(group: Group, *runs: EvaluatedRun) -> list[Arm]:
    """The arms of `group` that these runs make."""
    scores = {run.name: make_scores(run) for run in runs}
    return arms_of(group, list(scores), {run.name: [run] for run in runs}, scores)


def first_cells(markdown: str) -> list[str]:
    """First column of a Markdown table, without its head."""
    return [line.split("|")[1].strip() for line in markdown.splitlines()[2:]]


def make_claim(name: str, by: Origin = Origin.paper, cost: str = "", discrepancy: str = "") -> Claim:
    """A claim about two runs."""
    rule = Ordering("a", ("b",), 0.0, 1.0)
    return Claim(name, f"{name} holds", "Table 2", "w", "mpl", rule, by, cost=cost, known_discrepancy=discrepancy)


def section_of(markdown: str, heading: str) -> str:
    """A section's text; the empty string when it is not there."""
    _, _, rest = markdown.partition(f"\n## {heading}\n")
    return rest.split("\n## ")[0]


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
    report = render({run.name: [run] for run in runs}, scores | {refused.name: refused}, [], [])
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


def test_runs_with_the_same_title_are_told_apart() -> None:
    """A title that two arms share is followed by the run's name."""
    runs = [make_run("digits_mpl", [0.9], title="MPL"), make_run("digits_mpl_long", [0.9], title="MPL")]
    assert ["MPL (digits_mpl)", "MPL (digits_mpl_long)"] == [arm.title for arm in arms_on(DIGITS, *runs)]


def test_a_missing_reference_is_named() -> None:
    """Without the reference no difference is shown, and the report says which run is missing."""
    text = section_of(report_on(make_run("digits_mpl", [0.9, 0.8])).markdown, DIGITS.heading)
    assert "No result of the reference `digits_mpl_no_feedback`" in text


def test_refused_numbers_are_shown_as_refused() -> None:
    """A problem found by verification is printed, and a run without scores is not given its own numbers."""
    run = make_run("digits_mpl", [0.1234])
    refused = render({run.name: [run]}, {run.name: make_scores(run, ("seed 3: hash differs",))}, [], []).markdown
    assert "- `digits_mpl`: seed 3: hash differs" in refused
    unscored = render({run.name: [run]}, {}, [], []).markdown
    assert "| mpl | student | 0 | – |" in unscored
    assert "not recomputed" in unscored


def test_refused_folders_are_not_drawn() -> None:
    """Curves of a folder with a refused seed stay out of every figure, those of the other folders are drawn."""
    runs = [make_run("digits_mpl", [0.9]), make_run("digits_mpl", [0.1], first_seed=1)]
    arm = arms_of(DIGITS, ["digits_mpl"], {"digits_mpl": runs}, {"digits_mpl": make_scores(runs[0], ("seed 1: no",))})[
        0
    ]
    assert [[0]] == [run.seeds for run in arm.runs]
    assert {} == render({"digits_mpl": runs}, {}, [], []).figures


def test_nothing_has_run() -> None:
    """Without runs the report says so and still lists the claims."""
    verdict = Verdict("c10", Status.NOT_RUN, "no results", missing="60 GPU hours")
    report = render({}, {}, [make_claim("c10", cost="60 GPU hours")], [verdict])
    assert "**Nothing has run yet**" in report.markdown
    assert "| c10 holds | Table 2 | **NOT RUN** | – | no results. Cost: 60 GPU hours. |" in report.markdown
    assert {} == report.figures
    assert "Nothing has run yet" in render({}, {}, [], []).markdown


@pytest.mark.parametrize("status", list(Status))
def test_every_status_is_shown(status: Status) -> None:
    """Whatever the verdict, its row is there with the estimate and the reason."""
    verdict = Verdict("one", status, "a | b", estimate=-0.5, low=-1.0, high=0.0, n=5)
    words = status.value.replace("_", " ")
    expected = f"| one holds | Table 2 | **{words}** | −0.50 points [−1.00, 0.00] | a \\| b. |"
    assert expected == verdict_table([make_claim("one")], [verdict]).splitlines()[-1]


def test_claims_without_verdict_and_controls_are_shown() -> None:
    """A claim that was not judged has a row, and our controls stand in a table of their own."""
    claims = [make_claim("one"), make_claim("two", Origin.control, discrepancy="known")]
    text = verdict_table(claims, [Verdict("two", Status.INCONCLUSIVE, "r", missing="3 more seeds")])
    assert "| one holds | Table 2 | – | – | not judged |" in text
    controls = text.partition("| Our own controls")[2]
    assert "r. To settle it: 3 more seeds. Known discrepancy: known." in controls


def test_an_absolute_estimate_is_called_a_distance() -> None:
    """The estimate for a number of the paper is a distance from it, and the table says so."""
    claim = Claim("c", "s", "Table 2", "w", "mpl", Absolute("run", 96.11, 0.07, 10, 0.25), recipe="paper")
    text = verdict_table([claim], [Verdict("c", Status.REPRODUCED, "r", estimate=0.03, low=-0.1, high=0.16)])
    assert "+0.03 points from the paper's [−0.10, +0.16]" in text


def test_terminal_lines_are_aligned() -> None:
    """Claims start in the same column whatever the length of the status."""
    claims = [make_claim("one"), make_claim("two")]
    verdicts = [Verdict("one", Status.NOT_REPRODUCED, "r"), Verdict("two", Status.NOT_RUN, "r")]
    lines = verdict_lines(claims, verdicts)
    assert [lines[0].index("one")] * 2 == [lines[2].index("two"), lines[1].index("r.")]


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


def test_choice_by_test_accuracy_is_sized_seed_by_seed() -> None:
    """The excess is the mean over seeds of best minus final, not best mean minus final mean."""
    run = make_run("digits_mpl", [0.80, 1.00])  # best 0.9 and 1.0
    arm = arms_on(DIGITS, run)[0]
    series = curve([run], "accuracy/student")
    assert series is not None
    assert 5.0 == pytest.approx(selection_excess(series))
    assert checkpoints_table([arm]).splitlines()[-1].endswith("| 95.00 | +5.00 |")


def test_identical_departures_share_a_row() -> None:
    """A departure of all arms has one row; one of a single arm names it; settled ones come first."""
    shared = {"key": "data.noise", "prescribed": "not given", "here": "0.1", "open": True}
    single = {"key": "optim", "prescribed": "0.1", "here": "0.5", "open": False}
    runs = [
        make_run("digits_mpl", [0.9], departures=[shared, single]),
        make_run("digits_uda", [0.9], departures=[shared]),
    ]
    rows = departures_table(arms_on(DIGITS, *runs)).splitlines()[2:]
    expected = ["| `optim` | 0.1 | 0.5 | departs | mpl |", "| `data.noise` | not given | 0.1 | left open | all |"]
    assert expected == rows


def test_provenance_names_every_device_and_unclean_code() -> None:
    """Two devices give two rows, and uncommitted changes stand out."""
    gpu = {"revision": "fedcba9876543210", "clean": False, "device_name": "a GPU", "finished": "2030-01-02T03:04:05"}
    runs = {"a": [make_run("a", [0.9])], "b": [make_run("b", [0.9, 0.8], environment=gpu)]}
    text = provenance(runs)
    assert "2 runs over 3 trained seeds, finished 2030-01-02." in text
    assert "| a CPU | unknown | `0123456789` | none | 1 | 60 s |" in text
    assert "| a GPU | unknown | `fedcba9876` | **yes** | 1 | 0 s |" in text


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


def test_numbers_are_written_with_sign_and_dash() -> None:
    """Differences have a sign or are zero, tiny p-values are bounded, the unknown is a dash, pipes are escaped."""
    assert ["+0.57", "−0.50", "0.00", "–"] == [signed(0.57), signed(-0.5), signed(-0.001), signed(math.nan)]
    assert ["< 0.001", "0.034", "–"] == [p_value(1e-9), p_value(0.0341), p_value(math.nan)]
    assert "| a |\n| --- |\n| b \\| c |" == table(["a"], [["b |\nc"]])
