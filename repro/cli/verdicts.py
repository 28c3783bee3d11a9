"""Prints the verdicts and where the report lies, and puts the verdict table into README.md.

python -m repro.cli.verdicts
"""

from __future__ import annotations

from pathlib import Path

from repro.cli.entry import run
from repro.files import write_whole
from repro.records.verdicts import CLAIMS, read_verdicts, replace_generated
from repro.report.verdicts import readme_table, verdict_lines
from repro.verify.claims import read_claims

README = Path("README.md")


def main() -> None:
    """Prints, then rewrites the README's generated part."""
    claims, verdicts = read_claims(CLAIMS), read_verdicts()
    print("\n".join(verdict_lines(claims, verdicts)))
    before = README.read_text()
    after = replace_generated(before, readme_table(claims, verdicts))
    if after != before:
        write_whole(README, after.encode())
    print("\nReport: results/REPORT.md")


if __name__ == "__main__":
    run(main)
