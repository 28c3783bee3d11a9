"""Tries what days of training on machines that are taken away bring, and says what survived.

    python -m tests.survival.run                 all of it, half an hour; writes results/survival.json
    python -m tests.survival.run --few --out f   a few trials of each kind; what the tests run

Every trial trains and evaluates a small run of the real data through the entry points, with something going wrong, then
starts the same command again, and compares all that is left with an uninterrupted run's: weights along training and at
its end, averages, finetuned weights, log, predictions, curves; bit for bit.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from repro.files import write_whole
from repro.train.job import environment, source_hashes
from tests.survival import disks, kills
from tests.survival.kills import Expected, Tally
from tests.survival.workplace import ROOT, WORKLOADS, prepared, quiet

RECORD = ROOT / "results/survival.json"
_BEGIN, _END = "<!-- survival: generated, do not edit -->", "<!-- end of survival -->"
_LAST = 80  # operations on files after the last checkpoint, about

FEW = ("mpl", "mpl_stacked")

Trial = tuple[str, str, Callable[[], tuple[int, str]]]
"""Identifier of its kind, the kind in words, and what tries it: strikes that met, and what went wrong."""


def once(trial: Callable[..., str], *arguments: Any, **named: Any) -> tuple[int, str]:
    """The outcome of a trial whose strike always meets."""
    return 1, trial(*arguments, **named)


def _all_safe(unsafe: int) -> str:
    return f"{unsafe} do not" if unsafe else ""


def kill_trials(expected: Expected, chance: random.Random, each: int) -> Iterator[Trial]:
    """Everything that ends a process, on one workload; `each` of every kind that depends on chance."""
    for strike, (says, _) in kills.STRIKES.items():
        for _ in range(each):
            yield strike, says, partial(kills.struck_at_random, expected, strike, chance)
    says = "SIGKILL of evaluation, at a random moment"
    for _ in range(each):
        yield "kill_evaluation", says, partial(kills.struck_in_evaluation, expected, chance)
    for stage in ("training", "evaluation"):
        counted = kills.operations(expected, stage)
        says = f"Files of {stage} take their place only when the disk has them"
        yield f"unsafe_{stage}", says, partial(once, _all_safe, counted.unsafe)
        says = f"SIGKILL of all processes at one operation on files of {stage}"
        last = range(max(1, counted.count - _LAST), counted.count + 1)  # results, publication, removal of the state
        chosen = chance.sample(range(1, counted.count + 1), min(counted.count, 2 * each))
        for number in sorted({*chosen, *chance.sample(last, min(len(last), (4 if each > 1 else 2) * each))}):
            yield f"operation_{stage}", says, partial(once, kills.struck_at_operation, expected, number, stage)


def disk_trials(expected: Expected, chance: random.Random, each: int, mounts: bool) -> Iterator[Trial]:
    """Everything that a disk does, and a second process, on one workload; `each` of every kind."""
    if mounts and not expected.stacked:
        says = "A disk of 16 to 200 KiB that fills up"
        for _ in range(each):
            yield "full", says, partial(once, disks.on_a_small_disk, expected, chance.randrange(16, 200))
        yield "read_only", "A read-only disk", partial(once, disks.on_a_small_disk, expected, 1000, read_only=True)
    says = "Files limited to 1 to 10 kB, as by a quota"
    for _ in range(each):
        yield "limit", says, partial(once, disks.with_limited_files, expected, chance.randrange(1000, 10_000))
    midway = disks.stopped_midway(expected)
    for damage, (says, _) in disks.DAMAGES.items():
        for _ in range(each):
            yield damage, says, partial(once, disks.damaged, expected, midway, damage, chance)
    yield (
        "all_damaged",
        "No checkpoint intact: refused, files kept",
        partial(once, disks.all_damaged, expected, midway, chance),
    )
    yield (
        "second",
        "A second process on a run: refused while the first lives, goes on when it is killed",
        partial(once, disks.second_writer, expected),
    )


def run_one(name: str, each: int, seed: int, kinds: Sequence[str] = ()) -> dict[str, Tally]:
    """Tries everything, or trials of some kinds, on one workload."""
    quiet()
    found: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory(prefix="survival-") as above:
        expected = kills.uninterrupted(prepared(Path(above) / "place", [name]), name)
        print(f"{name}: {expected.seconds:.1f} s of training when nothing happens", flush=True)
        chance = random.Random(f"{seed}{name}")  # noqa: S311 - moments, not secrets
        every = chain(kill_trials(expected, chance, each), disk_trials(expected, chance, each, disks.may_mount()))
        for kind, says, trial in every:
            if kinds and kind not in kinds:
                continue
            started = time.monotonic()
            strikes, complaint = trial()
            found.setdefault(kind, Tally(says)).add(strikes, complaint)
            print(f"{name} {kind}: {complaint or 'survived'} ({time.monotonic() - started:.1f} s)", flush=True)
    return found


def run_all(names: list[str], each: int, seed: int, jobs: int, kinds: Sequence[str] = ()) -> dict[str, Tally]:
    """The same on all named workloads, each in a process of its own, `jobs` side by side, summed up."""
    found: dict[str, Tally] = {}

    def run_apart(name: str, out: Path) -> list[dict[str, Any]]:
        options = ["--each", str(each), "--seed", str(seed), "--out", str(out), "--kinds", *kinds]
        subprocess.run([sys.executable, "-m", "tests.survival.run", name, *options], cwd=ROOT, check=False)  # noqa: S603
        rows: list[dict[str, Any]] = json.loads(out.read_text())["trials"]
        return rows

    with tempfile.TemporaryDirectory(prefix="survival-") as above, ThreadPoolExecutor(jobs) as pool:
        for rows in pool.map(run_apart, names, [Path(above) / name for name in names]):
            for row in rows:
                kind = row.pop("id")
                found.setdefault(kind, Tally(row["says"])).join(Tally(**row))
    return found


def table(record: dict[str, Any]) -> str:
    """The record in Markdown."""
    lines = ["| tried | trials | struck while running | survived |", "| --- | --- | --- | --- |"]
    lines += [f"| {row['says']} | {row['trials']} | {row['strikes']} | {row['survived']} |" for row in record["trials"]]
    total = {key: sum(row[key] for row in record["trials"]) for key in ("trials", "strikes", "survived")}
    return "\n".join([*lines, f"| all | {total['trials']} | {total['strikes']} | {total['survived']} |"])


def show(shown: str) -> None:
    """Puts the table into the protocol."""
    path = ROOT / "REPRODUCE.md"
    before, rest = path.read_text().split(_BEGIN)
    write_whole(path, f"{before}{_BEGIN}\n{shown}\n{_END}{rest.split(_END)[1]}".encode())


def main() -> int:
    """Writes the record; 1 when anything did not survive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"workloads (default: all of {', '.join(WORKLOADS)})")
    parser.add_argument("--each", type=int, default=5, help="trials of every kind and workload (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--kinds", nargs="*", default=[], help="only these, which replace theirs in the record")
    parser.add_argument("--jobs", type=int, default=2, help="workloads side by side (default: 2)")
    parser.add_argument("--few", action="store_true", help="one trial of every kind, on two workloads")
    parser.add_argument("--out", type=Path, default=RECORD, help=f"the record (default: {RECORD.relative_to(ROOT)})")
    arguments = parser.parse_args()
    names = arguments.names or list(FEW if arguments.few else WORKLOADS)
    started = time.monotonic()
    each = 1 if arguments.few else arguments.each
    if len(names) == 1:
        found = run_one(names[0], each, arguments.seed, arguments.kinds)
    else:
        found = run_all(names, each, arguments.seed, arguments.jobs, arguments.kinds)
    facts = environment(torch.device("cpu"), [{"seconds": time.monotonic() - started}], source_hashes())
    fresh = {kind: {"id": kind} | asdict(tally) for kind, tally in found.items()}
    if arguments.kinds and arguments.out.exists():
        old = {row["id"]: row for row in json.loads(arguments.out.read_text())["trials"]}
        fresh = old | fresh
    rows = list(fresh.values())
    record = {"environment": facts, "workloads": names, "trials": rows}
    write_whole(arguments.out, (json.dumps(record, indent=1) + "\n").encode())
    print(table(record))
    if arguments.out == RECORD:
        show(table(record))
    return int(any(tally.failures for tally in found.values()))


if __name__ == "__main__":
    sys.exit(main())
