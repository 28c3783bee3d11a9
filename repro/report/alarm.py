"""The early alarm: whom it flags and whom it spares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from repro.evaluate.run import EvaluatedRun
from repro.report.numbers import NONE, count, percent, percent_interval, table
from repro.verify.bands import left_out
from repro.verify.statistics import rate_interval

_ABOUT = (
    "Every training compares its log with the band in which recorded seeds of the same run lie, over the first tenth "
    "of its steps, and prints `ALARM` where it leaves it; `make alarm` does the same on its own, in minutes. A band is "
    "the prediction interval of a new seed (mean ± t · spread · √(1 + 1/n)), corrected for all that is compared."
)


def alarm_section(runs: Mapping[str, Sequence[EvaluatedRun]], planted: Mapping[str, Any] | None) -> str:
    """Honest seeds, each against the band of the others; planted faults; empty where no run has enough seeds."""
    honest = [counts for folders in runs.values() if (counts := left_out(folders))]
    if not honest:
        return ""
    seeds, flagged = (sum(column) for column in zip(*honest, strict=True))
    spared = (
        f"**Honest seeds.** Each recorded seed against the band of the others of its run, {count(len(honest), 'run')}: "
        f"{flagged} of {count(seeds, 'seed')} flagged. (Arms share seeds, so these are fewer independent trials.)"
    )
    parts = ["## Early alarm", _ABOUT, spared, _faults(planted) if planted else ""]
    return "\n\n".join(part for part in parts if part)


def _faults(planted: Mapping[str, Any]) -> str:
    honest, faults = planted["honest"], planted["faults"]
    seen = [fault for fault in faults if fault["changed"]]
    by_mean = [fault for fault in seen if fault["mean"] or fault["seeds"]]
    low, high = rate_interval(len(by_mean), len(seen))
    where = planted["environment"]
    head = (
        f"**Fresh seeds and planted faults.** The first {planted['steps']} steps of `{planted['run']}`, against "
        f"{count(planted['recorded_seeds'], 'recorded seed')}, on {where['device_name']} at revision "
        f"`{where['revision'][:10]}`. Fresh honest seeds flagged: {honest['seeds_flagged']} of {honest['seeds']}; "
        f"means of three flagged: {honest['means_flagged']} of {honest['means']}. Of {len(faults)} faults planted in "
        f"code that trains, {len(faults) - len(seen)} leave this log as it is to the last bit (another data set, "
        f"another method, or after training). Of the other {len(seen)}, {len(by_mean)} are flagged: "
        f"{percent(len(by_mean) / max(len(seen), 1), 0)} % {percent_interval(low, high, 0)}. The rest are too small to "
        "see in so few steps, or concern what no log shows: tests catch them (`make faults`), an alarm cannot."
    )
    rows = [
        [fault["says"], f"{fault['seeds']} of 3", "yes" if fault["mean"] else "no", fault["first"] or NONE]
        for fault in sorted(seen, key=lambda fault: (-fault["seeds"], not fault["mean"], fault["id"]))
    ]
    return f"{head}\n\n{table(['fault', 'seeds flagged', 'mean of 3 flagged', 'first alarm'], rows)}"
