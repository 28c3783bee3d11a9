"""Many arms in one figure: no line is lost, no two look alike in a panel, and all of them are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.plan import experiments
from repro.report.families import CONTEXT, FAMILIES, MOST, families
from repro.report.groups import CIFAR10
from repro.report.style import LOOKS, look, wrapped
from tests.report_cases import arms_on, make_run, report_on

ROOT = Path(__file__).parent.parent / "experiments"
SUFFIXES = [*(suffix for suffixes in FAMILIES.values() for suffix in suffixes), *CONTEXT]
PAPER = CIFAR10[0]


def test_few_arms_share_one_panel() -> None:
    """Up to as many arms as can be told apart, the figure has one panel without a title."""
    arms = arms_on(PAPER, *[make_run(f"cifar10_paper_{suffix}", [0.9]) for suffix in SUFFIXES[:MOST]])

    assert [("", arms)] == families(arms)


def test_many_arms_are_split_and_none_is_lost() -> None:
    """Each arm, unknown ones too, is in one panel, MPL with and without feedback in all; none holds too many."""
    arms = arms_on(PAPER, *[make_run(f"cifar10_paper_{suffix}", [0.9]) for suffix in [*SUFFIXES, "mpl_zebra"]])
    panels = families(arms)

    members = [arm.suffix for _, panel in panels for arm in panel if arm.suffix not in CONTEXT]
    assert sorted([*SUFFIXES[: -len(CONTEXT)], "mpl_zebra"]) == sorted(members)
    assert all(set(CONTEXT) <= {arm.suffix for arm in panel} for _, panel in panels)
    assert max(len(panel) for _, panel in panels) <= MOST + 1


@pytest.mark.parametrize("suffixes", FAMILIES.values(), ids=FAMILIES)
def test_no_two_lines_of_a_panel_look_alike(suffixes: tuple[str, ...]) -> None:
    """Colour and line style together tell all arms of a family apart, and from MPL with and without feedback."""
    together = [*suffixes, *CONTEXT]

    assert len(together) == len({look(suffix) for suffix in together})


def test_every_arm_of_cifar10_has_its_own_look_and_family() -> None:
    """An experiment added to a CIFAR-10 setting without a look or a family is noticed."""
    prefixes = tuple(group.prefix for group in CIFAR10)
    arms = {name.removeprefix(prefix) for name in experiments(ROOT) for prefix in prefixes if name.startswith(prefix)}

    assert arms
    assert set() == arms - LOOKS.keys()
    assert set() == arms - set(SUFFIXES)


def test_the_figures_of_many_arms_name_them_all() -> None:
    """Every arm is in a legend to the right of its row, in the learning curves and in those of pseudo labels."""
    figures = report_on(*[make_run(f"cifar10_paper_{suffix}", [0.9, 0.8]) for suffix in SUFFIXES]).figures

    for key in ("cifar10_paper_curves", "cifar10_paper_pseudo_labels"):
        legends = [axes.get_legend() for axes in figures[key].axes]
        named = {text.get_text() for legend in legends if legend for text in legend.get_texts()}
        assert {wrapped(suffix.replace("_", " "), 24) for suffix in SUFFIXES} == named


def test_many_arms_are_seen_at_the_end_of_training() -> None:
    """The scale of a split figure holds every line's last third, and not the long way up to it."""
    runs = [make_run(f"cifar10_paper_{suffix}", [0.93]) for suffix in SUFFIXES]
    axes = report_on(*runs).figures["cifar10_paper_curves"].axes[0]

    low, high = axes.get_ylim()
    assert low < 93 < high
    assert low > 90
