"""Which arms share a panel: all of them while they are few, else those that change the same part of the method."""

from __future__ import annotations

from collections.abc import Sequence

from repro.report.arms import Arm

MOST = 9  # lines that can be told apart in one panel

CONTEXT = ("mpl_no_feedback", "mpl")
"""What every family is seen against."""

FAMILIES = {
    "The methods": ("supervised", "supervised_all", "pseudo_label", "uda", "fixmatch"),
    "The labelled images alone": ("supervised_alone", "supervised_smoothing", "mpl_regulariser"),
    "Other teachers of the student": (
        "mixup",
        "randaugment",
        "mpl_pseudo_label",
        "mpl_mixup",
        "mpl_randaugment",
    ),
    "The form of h": (
        "mpl_dot_product",
        "mpl_cosine",
        "mpl_finite_difference",
        "mpl_baseline",
        "mpl_no_baseline",
        "mpl_reversed",
        "mpl_shuffled",
    ),
    "Pseudo labels, averaging, data": (
        "mpl_argmax",
        "mpl_soft",
        "mpl_released",
        "mpl_released_batch_norm",
        "mpl_average",
        "mpl_no_average",
        "mpl_labelled_apart",
        "mpl_labelled_among",
    ),
}


def families(arms: Sequence[Arm]) -> list[tuple[str, list[Arm]]]:
    """Panels with their arms, in the arms' order; MPL with and without feedback is in each of several."""
    if len(arms) <= MOST:
        return [("", list(arms))]
    named = {suffix for suffixes in FAMILIES.values() for suffix in (*suffixes, *CONTEXT)}
    others = tuple(arm.suffix for arm in arms if arm.suffix not in named)
    found = []
    for title, suffixes in {**FAMILIES, "Other arms": others}.items():
        if any(arm.suffix in suffixes for arm in arms):
            found.append((title, [arm for arm in arms if arm.suffix in (*suffixes, *CONTEXT)]))
    return found
