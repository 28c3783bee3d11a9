"""results/verdicts.json, and the generated part of the README."""

from __future__ import annotations

from pathlib import Path

from repro.results import RecordError
from repro.verify.claims import VERDICTS, read_verdicts, write_verdicts

__all__ = ["VERDICTS", "read_verdicts", "write_verdicts"]

CLAIMS = Path("experiments/claims.yaml")
BEGIN, END = "<!-- verdicts: generated, do not edit -->", "<!-- end of verdicts -->"


<<<<<<< HEAD
def write_verdicts(verdicts: Sequence[Verdict], path: Path = VERDICTS) -> None:
    """Writes all verdicts, in the claims' order."""
    write_whole(path, (json.dumps([asdict(verdict) for verdict in verdicts], indent=1) + "\n").encode())


def read_verdicts(path: Path = VERDICTS) -> list[Verdict]:
    """Reads what `write_verdicts` wrote.

    Raises:
        RecordError: when the file is missing or damaged.
    """
    return read_record(path, _verdicts, "judge again with: repro verify")


def _verdicts(text: bytes) -> list[Verdict]:
    return [Verdict(**entry | {"status": Status(entry["status"])}) for entry in json.loads(text)]


=======
>>>>>>> report
def replace_generated(text: str, table: str) -> str:
    """`text` with `table` between the two marks.

    Raises:
        RecordError: when the marks are not there, once each and in order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise RecordError(f"README.md must hold the lines {BEGIN!r} and {END!r}, once each and in this order")
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"
