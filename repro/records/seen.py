"""Does a record replace one of the same training with other seeds? Then somebody chose seeds with results at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from repro.evaluate.run import EvaluatedRun, settings_of
from repro.records.runs import RUNS, read_run
from repro.seeding import seeds_listed


def with_seeds_seen(folders: Sequence[EvaluatedRun], root: Path = RUNS) -> list[EvaluatedRun]:
    """The folders of a run, told as `seeds_before` in their environment what other seeds of it were recorded before.

    A record that cannot be read today, or whose settings differ in more than the list of seeds, was another run.

    Args:
        folders: of one run, about to be recorded.
        root: of what is recorded.
    """
    try:
        old = [read_run(path) for path in sorted((root / folders[0].name).glob("seed*"))]
        alike = bool(old) and all(settings_of(run) == settings_of(folders[0]) for run in old)
    except ValueError:  # RecordError is such
        alike = False
    if not alike:
        return list(folders)
    seeds, before = (seeds_listed(sorted(seed for run in runs for seed in run.seeds)) for runs in (folders, old))
    known = [text for run in old for text in run.environment.get("seeds_before", [])]
    seen = list(dict.fromkeys([*known, *([before] if before != seeds else [])]))
    told = {"seeds_before": seen} if seen else {}
    return [replace(run, environment=run.environment | told) for run in folders]
