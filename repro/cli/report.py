"""Writes the report from the recorded runs and verdicts: pages, figures, index.html, metrics.json; needs no model.

python -m repro.cli.report
"""

from __future__ import annotations

from repro.cli.entry import run
from repro.engine.device import set_up_process
from repro.report.pages import write_report


def main() -> None:
    """Makes everything, then writes it: until then the old report stays."""
    set_up_process()
    for path in write_report():
        print(path)


if __name__ == "__main__":
    run(main)
