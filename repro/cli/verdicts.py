"""Prints the three answers, the counts of verdicts and where the report lies; puts the answers into README.md.

python -m repro.cli.verdicts
"""

from __future__ import annotations

import sys
from pathlib import Path

from repro.cli.entry import run
from repro.files import write_whole
from repro.records.verdicts import replace_generated
from repro.report.pages import read_for_answers, readme_rows, verdict_lines

README = Path("README.md")


def main() -> None:
    """Prints, then rewrites the README's generated part."""
    record = read_for_answers()
    print("\n".join(verdict_lines(record, sys.stdout.encoding or "ascii")))
    before = README.read_text()
    after = replace_generated(before, readme_rows(record))
    if after != before:
        write_whole(README, after.encode())


if __name__ == "__main__":
    run(main)
