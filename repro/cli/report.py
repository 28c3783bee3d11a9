"""Writes results/REPORT.md and results/figures/ from the recorded runs and verdicts; needs no model.

python -m repro.cli.report
"""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from repro.cli.entry import run
from repro.engine.device import set_up_process
from repro.evaluate.run import EvaluatedRun
from repro.files import partly, replace_folder, restore_folder, write_whole
from repro.records.runs import read_runs
from repro.records.scores import rebuild_all
from repro.records.verdicts import CLAIMS, read_verdicts
from repro.report.published import read_published
from repro.report.render import Report, render
from repro.verify.claims import read_claims
from repro.verify.rebuild import Scores

RESULTS = Path("results")
FIGURES = RESULTS / "figures"
TABLE2 = Path("experiments/table2.yaml")


_waiting: dict[str, Figure] = {}
"""Figures by name, which the processes that draw them inherit."""


def main() -> None:
    """Renders everything, then writes it: until then the old report and figures stay."""
    set_up_process()
    restore_folder(FIGURES)  # where a kill chose the moment between two renames
    runs = read_runs()
    report = rendered(runs, rebuild_all(runs))
    pictures = drawn(report.figures)
    _replace_figures(pictures)
    write_whole(RESULTS / "REPORT.md", report.markdown.encode())
    print(f"{RESULTS / 'REPORT.md'} with {len(pictures)} figures")


def _replace_figures(pictures: Mapping[str, bytes]) -> None:
    """The folder of figures holds these and no others, all at once."""
    fresh = partly(FIGURES)
    try:
        fresh.mkdir(parents=True)
        for key, png in pictures.items():
            write_whole(fresh / f"{key}.png", png)
        replace_folder(fresh, FIGURES)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def rendered(runs: Mapping[str, Sequence[EvaluatedRun]], scores: Mapping[str, Scores]) -> Report:
    """The report on these runs and the recorded verdicts, its figures not yet drawn."""
    mpl.use("agg")
    claims = read_claims(CLAIMS)
    published = read_published(TABLE2.read_text(), str(TABLE2), claims)
    return render(runs, scores, claims, read_verdicts(), published)


def drawn(figures: Mapping[str, Figure]) -> dict[str, bytes]:
    """Every figure as PNG, drawn side by side: drawing is half of the report's time."""
    _waiting.update(figures)
    workers = max(1, min(os.cpu_count() or 1, len(figures), 8))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        pictures = dict(zip(figures, pool.map(_png, figures), strict=True))
    _waiting.clear()
    return pictures


def _png(key: str) -> bytes:
    buffer = io.BytesIO()
    _waiting[key].savefig(buffer, format="png", dpi=150, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


if __name__ == "__main__":
    run(main)
