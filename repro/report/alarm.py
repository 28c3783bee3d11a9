"""The early alarm: whom it flags and whom it spares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from repro.evaluate.run import EvaluatedRun
from repro.report.numbers import NONE, count, percent, percent_interval, table
from repro.verify.bands import bands_from, left_out
from repro.verify.statistics import rate_interval

_ABOUT = (
    "A training compares its log with the band in which recorded seeds of the same settings lie, where there are ten "
    "of them, over the first tenth of its steps, and prints `ALARM` where it leaves it; `make alarm` does the same on "
    "its own, in minutes. A band is the prediction interval of a new seed (mean ± t · spread · √(1 + 1/n)), corrected "
    "for all that is compared."
)


def alarm_section(runs: Mapping[str, Sequence[EvaluatedRun]], planted: Mapping[str, Any] | None) -> str:
    """Honest seeds, each against the band of the others; planted faults; empty where no run has enough seeds."""
    honest = [counts for folders in runs.values() if (counts := left_out(folders))]
    if not honest:
        return ""
    seeds, flagged = (sum(column) for column in zip(*honest, strict=True))
    spared = (
        f"**Honest seeds.** Each recorded seed against the band of the others of its run, {count(len(honest), 'run')}: "
        f"{flagged} of {count(seeds, 'seed')} flagged. (The level was chosen on these; arms share seeds.)"
    )
    parts = [
        "## Early alarm",
        _ABOUT,
        spared,
        _stale(runs, planted) if planted else "",
        _faults(planted) if planted else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _stale(runs: Mapping[str, Sequence[EvaluatedRun]], planted: Mapping[str, Any]) -> str:
    """Whether the rates below were measured with another band than the recorded seeds now give."""
    bands = bands_from(runs.get(planted["run"], ()))
    if bands is not None and bands.digest() == planted["band"]:
        return ""
    return "**The rates below were measured with an older band**; measure them again: `python -m tests.faults.alarm`."


def _said(flagged: Mapping[str, Any]) -> str:
    return f"{flagged['seeds']} of 3, their mean {'too' if flagged['mean'] else 'not'}"


def _faults(planted: Mapping[str, Any]) -> str:
    honest, faults = planted["honest"], planted["faults"]
    seen = [fault for fault in faults if fault["changed"]]
    by_mean = [fault for fault in seen if fault["mean"] or fault["seeds"]]
    low, high = rate_interval(len(by_mean), len(seen))
    where = planted["environment"]
    rate = percent_interval(*rate_interval(honest["seeds_flagged"], honest["seeds"]))
    head = (
        f"**Fresh seeds and planted faults.** The first {planted['steps']} steps of `{planted['run']}`, against "
        f"{count(planted['recorded_seeds'], 'recorded seed')}, on {where['device_name']} at revision "
        f"`{where['revision'][:10]}`. Fresh honest seeds flagged: {honest['seeds_flagged']} of {honest['seeds']} "
        f"{rate} %; means of three: {honest['means_flagged']} of {honest['means']}; any of three or their mean: "
        f"{honest['triples_flagged']} of {honest['means']}; the seeds that the faults are planted on: "
        f"{_said(honest['same_seeds'])}. Of {len(faults)} faults planted in code that trains, "
        f"{len(faults) - len(seen)} leave this log as it is to the last bit (another data set, another method, or "
        f"after training). Of the other {len(seen)}, {len(by_mean)} are flagged by a seed or the mean: "
        f"{percent(len(by_mean) / max(len(seen), 1), 0)} % {percent_interval(low, high, 0)}. The rest are too small to "
        "see in so few steps, or concern what no log shows: tests catch them (`make faults`), an alarm cannot."
    )
    rows = [
        [fault["says"], f"{fault['seeds']} of 3", "yes" if fault["mean"] else "no", fault["first"] or NONE]
        for fault in sorted(seen, key=lambda fault: (-fault["seeds"], not fault["mean"], fault["id"]))
    ]
    return f"{head}\n\n{table(['fault', 'seeds flagged', 'mean of 3 flagged', 'first alarm'], rows)}"
