"""Is every generated file what the recorded runs give? Recomputes, compares, writes nothing.

    python -m tests.supply.generated        (make check-generated)

Text must be equal. Numbers in JSON may differ in their last digits, and a few pixels of a figure by a shade: another
processor rounds sums otherwise. Exits with 1 and one sentence for each file that is not as generated.
"""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from repro.cli.entry import run
from repro.cli.report import drawn, rendered
from repro.cli.verify import judged
from repro.evaluate.run import EvaluatedRun
from repro.records.runs import read_runs
from repro.records.verdicts import CLAIMS, VERDICTS, read_verdicts, replace_generated

from repro.engine.device import set_up_process
from repro.report.verdicts import readme_table
from repro.verify.claims import read_claims
from tests.supply import lock
from tests.survival.compare import table, with_table

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


def figure_problem(path: Path, png: bytes) -> list[str]:
    """Whether the file shows another picture than these bytes."""
    remedy = "draw it again with: make report"
    if not path.is_file():
        return [f"{path} is not there; {remedy}"]
    with Image.open(path) as mine, Image.open(io.BytesIO(png)) as theirs:
        a, b = (np.asarray(image.convert("RGB"), np.int16) for image in (mine, theirs))
    if a.shape != b.shape:
        return [f"{path} has another size than the figure of the recorded runs; {remedy}"]
    share = float((np.abs(a - b).max(axis=-1) >= SHADE).mean())
    return (
        [f"{path} is not the figure of the recorded runs: {share:.2%} of it differs; {remedy}"] if share > SHARE else []
    )


def problems(runs: Mapping[str, Sequence[EvaluatedRun]]) -> list[str]:
    """Everything in the working directory that is not as generated from these runs."""
    verdicts, scores = judged(runs)
    found = []
    now = json.loads(json.dumps([asdict(verdict) for verdict in verdicts]))
    if problem := json_problem(json.loads(VERDICTS.read_text()), now):
        found.append(f"{VERDICTS}: {problem}; judge again with: make verify")
    readme, protocol = Path("README.md"), Path("REPRODUCE.md")
    shown = readme_table(read_claims(CLAIMS), read_verdicts())
    found += text_problem(readme, (text := readme.read_text()), replace_generated(text, shown), "make verify")
    measured = table(json.loads(Path("results/determinism.json").read_text()))
    again = "python -m tests.survival.machines"
    found += text_problem(protocol, (text := protocol.read_text()), with_table(text, measured), again)
    report, path = rendered(runs, scores), Path("results/REPORT.md")
    found += text_problem(path, path.read_text(), report.markdown, "make report")
    for key, png in drawn(report.figures).items():
        found += figure_problem(Path(f"results/figures/{key}.png"), png)
    stale = {path.stem for path in Path("results/figures").glob("*.png")} - report.figures.keys()
    return found + [f"results/figures/{key}.png is of no recorded run; delete it: make report" for key in sorted(stale)]


def main() -> int:
    """Checks the lock, then everything that `make report` writes; 1 where something is not as generated."""
    set_up_process()
    found, how = lock.check(Path())
    print(f"requirements.lock: {how}", flush=True)
    found += problems(read_runs())
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    if not found:
        print("verdicts, README, REPRODUCE, report and figures are what the recorded runs give")
    return 1 if found else 0


if __name__ == "__main__":
    run(main)
