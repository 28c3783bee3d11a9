"""Writes results/REPORT.md and results/figures/ from the recorded runs and verdicts; needs no model.

python -m repro.cli.report
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from repro.cli.entry import run
from repro.engine import set_up_process
from repro.files import write_whole
from repro.records.runs import read_runs
from repro.records.scores import rebuild_all
from repro.records.verdicts import CLAIMS, read_planted, read_verdicts
from repro.report.published import read_published
from repro.report.render import render
from repro.verify.claims import read_claims

RESULTS = Path("results")
TABLE2 = Path("experiments/table2.yaml")


def main() -> None:
    """Renders and writes everything."""
    mpl.use("agg")
    set_up_process()
    runs, claims = read_runs(), read_claims(CLAIMS)
    published = read_published(TABLE2.read_text(), str(TABLE2), claims)
    report = render(runs, rebuild_all(runs), claims, read_verdicts(), published, read_planted())
    shutil.rmtree(RESULTS / "figures", ignore_errors=True)
    for key, figure in report.figures.items():
        write_whole(RESULTS / "figures" / f"{key}.png", _png(figure))
    write_whole(RESULTS / "REPORT.md", report.markdown.encode())
    print(f"{RESULTS / 'REPORT.md'} with {len(report.figures)} figures")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


if __name__ == "__main__":
    run(main)
