"""When, where and with what the recorded runs were computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from repro.evaluate.run import EvaluatedRun
from repro.report.groups import grouped
from repro.report.numbers import count, table

_VERSIONS = ("python", "torch", "numpy")


def provenance(runs: Mapping[str, Sequence[EvaluatedRun]]) -> str:
    """A sentence on the amount of computation, and a table with one row for each device and code revision."""
    folders = [run for name in sorted(runs) for run in runs[name]]
    rows: dict[tuple[str, ...], list[EvaluatedRun]] = {}
    for run in folders:
        rows.setdefault(_where(run.environment), []).append(run)
    seeds = sum(len(run.seeds) for run in folders)
    lines = [
        [*where, str(len({run.name for run in found})), duration(sum(_seconds(run) for run in found))]
        for where, found in sorted(rows.items())
    ]
    days = sorted({str(run.environment["finished"])[:10] for run in folders if run.environment.get("finished")})
    when = f", finished {days[0]}" + (f" to {days[-1]}" if len(days) > 1 else "") if days else ""
    header = ["device", "versions", "code revision", "uncommitted changes", "runs", "training time"]
    return f"Computed from {count(len(runs), 'run')} over {count(seeds, 'trained seed')}{when}.\n\n" + table(
        header, lines, right=2
    )


def cost_table(runs: Mapping[str, Sequence[EvaluatedRun]]) -> str:
    """What each setting took: a row for each, with the training time of one seed on the devices that were used."""
    rows = []
    for group, names in grouped(runs):
        folders = [run for name in names for run in runs[name]]
        if not folders:
            continue
        steps = sorted({int(run.config.get("budget", {}).get("steps", 0)) for run in folders})
        each = [_seconds(run) / len(run.seeds) for run in folders]
        devices = sorted({str(run.environment.get("device_name") or "unknown") for run in folders})
        span = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
        rows.append([group.heading, ", ".join(devices), str(len(names)), str(sum(len(run.seeds) for run in folders)),
                     span, f"{min(each):.1f} to {max(each):.1f} s"])  # fmt: skip
    header = ["setting", "device", "runs", "trained seeds", "steps", "time a seed"]
    return table(header, rows, right=4)


def _where(environment: Mapping[str, Any]) -> tuple[str, str, str, str]:
    versions = dict.fromkeys(f"{name} {environment[name]}" for name in _VERSIONS if name in environment)
    changes = {True: "none", False: "**yes**"}.get(environment.get("clean"), "unknown")  # type: ignore[arg-type]
    device = str(environment.get("device_name") or environment.get("device") or "unknown")
    return device, ", ".join(versions) or "unknown", f"`{str(environment.get('revision', 'unknown'))[:10]}`", changes


def _seconds(run: EvaluatedRun) -> float:
    return float(run.environment.get("seconds") or 0.0)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
