"""Arms on the same test examples: what the test set's size leaves open, and how sharp a paired comparison is."""

from __future__ import annotations

from collections.abc import Sequence

from repro.report.arms import Arm
from repro.report.differences import different_data
from repro.report.groups import Group
from repro.report.numbers import percent_interval, plain, signed, signed_interval, table
from repro.report.swept import reference_name
from repro.verify.statistics import accuracy_interval, compare

ABOUT = (
    "The same trained networks on other test examples: a source of chance besides the seeds, which the intervals above "
    "do not hold. It speaks for these networks only and says nothing about new seeds. *One network*: the exact "
    "binomial interval of one network of this accuracy. *Difference*: paired by seed and example, 95 % interval by "
    "bootstrap over the examples. *Better / worse*: seeds in which McNemar's exact test (5 %, corrected for their "
    "number after Holm) tells the two networks apart, in this arm's favour and against it."
)


def on_test_set_table(group: Group, arms: Sequence[Arm]) -> str:
    """One row for each arm, against the reference; empty where the arms do not share their test examples."""
    shown = [arm for arm in arms if arm.correct]
    if not shown or not _shared(shown):
        return ""
    by_name = {arm.name: arm for arm in shown}
    rows = []
    for arm in shown:
        reference = by_name.get(reference_name(group, arm.name))
        examples = len(next(iter(arm.correct.values())))
        accuracy = sum(arm.accuracy.values()) / len(arm.accuracy)
        cells = [arm.title, f"{examples:,}", percent_interval(*accuracy_interval(accuracy, examples))]
        pair = reference is not None and reference is not arm and not different_data(arm, reference)
        found = compare(arm.correct, reference.correct) if pair and reference else None
        if found is None:
            rows.append([*cells, *["–"] * 4])
            continue
        only = f"{plain(found.only_first, 1)} / {plain(found.only_second, 1)}"
        interval = signed_interval(found.low, found.high)
        rows.append([*cells, only, signed(found.mean), interval, f"{found.better} / {found.worse} of {found.seeds}"])
    header = ["arm", "examples", "one network (%)", "right only here / only with h = 0", "difference (points)",
              "95 % interval", "better / worse"]  # fmt: skip
    return table(header, rows, right=len(header) - 1)


def _shared(arms: Sequence[Arm]) -> bool:
    """Whether all folders were evaluated on the same test data."""
    hashes = {str(run.data.get("held_out_hash")) for arm in arms for run in arm.runs}
    return len(hashes) == 1 and all(len(run.seeds) == 1 for arm in arms for run in arm.runs)
