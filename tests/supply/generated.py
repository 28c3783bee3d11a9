"""Is every generated file what the recorded runs give? Recomputes and compares; the working directory is left alone.

    python -m tests.supply.generated        (make check-generated)

Text must be equal. Numbers in JSON may differ in their last digits, and a few pixels of a figure by a shade: another
processor rounds sums otherwise. Figures are compared as PNG; SVG and index.html show the same ones. Exits with 1 and
one sentence for each file that is not as generated.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from repro.__main__ import BEGIN, END
from repro.engine.device import set_up_process
from repro.files import replace_between
from repro.report.pages import read_for_answers, readme_rows, write_report
from repro.report.record import RESULTS
from repro.results import read_runs
from repro.verify.claims import Verdict, read_verdicts
from repro.verify.rules import judged
from tests.supply import lock

NUMBERS = 1e-9
"""Relative difference of two numbers in JSON that counts as none; and 1e-12, absolutely, beside 0."""
SHADE, SHARE = 8, 1e-4
"""A pixel is another one from this difference of a colour on (of 255); so many of them make another figure."""


def text_problem(path: Path, recorded: str, generated: str, remedy: str) -> list[str]:
    """The first line in which they differ; `remedy` is a command."""
    lines = zip_longest(recorded.splitlines(), generated.splitlines(), fillvalue="(no line)")
    for number, (mine, theirs) in enumerate(lines, 1):
        if mine != theirs:
            at = next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), 0)
            there, here = mine[max(0, at - 20) : at + 40], theirs[max(0, at - 20) : at + 40]
            return [f"{path}:{number} has {there!r} where the recorded runs give {here!r}; write it with: {remedy}"]
    return [] if recorded == generated else [f"{path} differs in blank space at its end; write it with: {remedy}"]


def json_problem(recorded: Any, generated: Any, where: str = "") -> str:
    """Where the first difference lies and what it is; empty where there is none but in last digits."""
    if isinstance(recorded, dict) and isinstance(generated, dict) and recorded.keys() == generated.keys():
        return next((p for k in recorded if (p := json_problem(recorded[k], generated[k], f"{where}.{k}"))), "")
    if isinstance(recorded, list) and isinstance(generated, list) and len(recorded) == len(generated):
        pairs = enumerate(zip(recorded, generated, strict=True))
        return next((problem for i, (a, b) in pairs if (problem := json_problem(a, b, f"{where}[{i}]"))), "")
    if isinstance(recorded, float) and isinstance(generated, float):
        same = math.isclose(recorded, generated, rel_tol=NUMBERS, abs_tol=1e-12) or repr(recorded) == repr(generated)
    else:
        same = type(recorded) is type(generated) and recorded == generated
    return "" if same else f"{where.lstrip('.')} is {_short(recorded)} where the recorded runs give {_short(generated)}"


def _short(value: Any) -> str:
    return text if len(text := json.dumps(value)) <= 80 else f"{text[:77]}..."


def figure_problem(recorded: Path, generated: Path) -> list[str]:
    """Whether the recorded file shows another picture than the generated one."""
    remedy = "draw it again with: make report"
    if not recorded.is_file():
        return [f"{recorded} is not there; {remedy}"]
    with Image.open(recorded) as mine, Image.open(generated) as theirs:
        a, b = (np.asarray(image.convert("RGB"), np.int16) for image in (mine, theirs))
    if a.shape != b.shape:
        return [f"{recorded} has another size than the figure of the recorded runs; {remedy}"]
    share = float((np.abs(a - b).max(axis=-1) >= SHADE).mean())
    said = f"{recorded} is not the figure of the recorded runs: {share:.2%} of it differs; {remedy}"
    return [said] if share > SHARE else []


def verdict_problem(recorded: Sequence[Verdict], today: Sequence[Verdict]) -> str:
    """Whether other verdicts are recorded than the rules give today."""
    return json_problem(*(json.loads(json.dumps([asdict(one) for one in ones])) for ones in (recorded, today)))


def problems(fresh: Path) -> list[str]:
    """Everything in the working directory that is not as generated; the report is written into the folder `fresh`."""
    found = []
    if problem := verdict_problem(read_verdicts(), judged(read_runs())[0]):
        found.append(f"{RESULTS}/verdicts.json: {problem}; judge again with: repro verify")
    readme = Path("README.md")
    shown = replace_between(text := readme.read_text(), BEGIN, END, readme_rows(read_for_answers()), "README.md")
    found += text_problem(readme, text, shown, "make report")
    return found + report_problems(fresh)


def report_problems(fresh: Path, root: Path = RESULTS) -> list[str]:
    """What differs between the report in `root` and the one that is written into `fresh` from the same records."""
    for name in ("runs", "labels", "verdicts.json"):
        (fresh / name).symlink_to((root / name).resolve())
    write_report(fresh)
    found = []
    for path in sorted(fresh.glob("*.md")):
        found += text_problem(root / path.name, (root / path.name).read_text(), path.read_text(), "make report")
    numbers = (json.loads((folder / "metrics.json").read_text()) for folder in (root, fresh))
    if problem := json_problem(*numbers):
        found.append(f"{root}/metrics.json: {problem}; write it with: make report")
    for path in sorted(fresh.glob("figures/*.png")):
        found += figure_problem(root / "figures" / path.name, path)
    stale = {path.name for path in root.glob("figures/*")} - {path.name for path in fresh.glob("figures/*")}
    return found + [f"{root}/figures/{name} is of no recorded run; delete it: make report" for name in sorted(stale)]


def main() -> int:
    """Checks the lock, then everything that `make report` writes; 1 where something is not as generated."""
    set_up_process()
    found, how = lock.check(Path())
    print(f"requirements.lock: {how}", flush=True)
    with tempfile.TemporaryDirectory() as fresh:
        found += problems(Path(fresh))
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    if not found:
        print("verdicts, README, report and figures are what the recorded runs give")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
