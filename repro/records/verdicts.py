"""results/verdicts.json, and the generated part of the README."""

from __future__ import annotations

from pathlib import Path

from repro.results import RecordError
from repro.verify.claims import VERDICTS, read_verdicts, write_verdicts

__all__ = ["VERDICTS", "read_verdicts", "write_verdicts"]

CLAIMS = Path("experiments/claims.yaml")
BEGIN, END = "<!-- verdicts: generated, do not edit -->", "<!-- end of verdicts -->"


def replace_generated(text: str, table: str) -> str:
    """`text` with `table` between the two marks.

    Raises:
        RecordError: when the marks are not there, once each and in order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise RecordError(f"README.md must hold the lines {BEGIN!r} and {END!r}, once each and in this order")
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"
