"""Plants every fault of faults.yaml in a copy of the project and says which test catches it.

    python -m tests.faults.run [<id> ...] [--own-tests] [-j 2] [--table FILE]

A fault's own test files run first, without CIFAR-10; where they pass, all others run, with CIFAR-10 where it is. Only
tests that know why count: none that compares with recorded numbers. Exits with 1 unless every fault is caught.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FAULTS = Path(__file__).with_name("faults.yaml")
SOURCES = "repro"
NOT_COUNTED = ("test_claims.py", "test_faults.py", "test_cifar10_records.py", "test_structure.py")
"""They compare with recorded results, or look at text and not at behaviour."""

_NO_GOLDENS = "not recorded_ones"  # such tests fail after any change, a harmless one too
_CANNOT_IMPORT = 77
_START = f"""
import importlib, sys
try:
    for module in filter(None, sys.argv[1].split(",")):
        importlib.import_module(module)
except Exception as error:
    print(repr(error))
    sys.exit({_CANNOT_IMPORT})
import pytest
sys.exit(pytest.main(sys.argv[2:]))
"""


@dataclass(frozen=True)
class Fault:
    """A bug that a reviewer would name, and the edits that plant it."""

    id: str
    says: str
    edits: tuple[tuple[str, str], ...]  # what stands exactly once in all of `SOURCES`, and what comes instead
    tests: tuple[str, ...]  # files, the likeliest catcher first

    def planted(self, texts: Mapping[str, str]) -> dict[str, str]:
        """The files that the fault changes, by name, with the fault; `texts` are all files.

        Raises:
            ValueError: when a text to be replaced does not stand there exactly once, or nothing would change.
        """
        changed: dict[str, str] = {}
        for old, new in self.edits:
            now = {**texts, **changed}
            found = [name for name, text in now.items() for _ in range(text.count(old))]
            if len(found) != 1 or old == new:
                raise ValueError(f"{self.id}: {old!r} stands {len(found)} times in {SOURCES}/; wants 1, changed")
            changed[found[0]] = now[found[0]].replace(old, new)
        return changed


@dataclass(frozen=True)
class Outcome:
    """What became of a fault."""

    fault: Fault
    status: str  # CAUGHT, SURVIVED, or REFUSED where the failure would mean nothing
    by: str  # the first test that failed, or why refused
    seconds: float
    others: bool = False  # whether all tests ran, with CIFAR-10, since the fault's own had passed


def read_faults(path: Path) -> list[Fault]:
    """The list, in its order; an entry has `edits`, or `old` and `new` for a single one."""

    def fault(entry: dict[str, Any]) -> Fault:
        pairs = entry.get("edits") or [{key: entry[key] for key in ("old", "new")}]
        edits = tuple((pair["old"], pair["new"]) for pair in pairs)
        return Fault(entry["id"], entry["says"], edits, tuple(entry["tests"]))

    return [fault(entry) for entry in yaml.safe_load(path.read_text())]


def read_sources(root: Path) -> dict[str, str]:
    """All files in which faults are planted, by name from the root."""
    return {str(path.relative_to(root)): path.read_text() for path in sorted((root / SOURCES).rglob("*.py"))}


def copy_tracked(root: Path, target: Path) -> None:
    """Copies what git tracks, as it stands in the folder now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True)  # noqa: S607
    for name in filter(None, listed.stdout.split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)


def run_tests(folder: Path, modules: Iterable[str], tests: Iterable[str], *options: str) -> tuple[int, str]:
    """Pytest's status and output in a fresh process that has imported `modules` from `folder`."""
    arguments = ["-x", "-q", "-p", "no:cacheprovider", "-k", _NO_GOLDENS, *options, *tests]
    done = subprocess.run(  # noqa: S603 - the project's own tests
        [sys.executable, "-c", _START, ",".join(modules), *arguments],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def verdict(status: int, output: str) -> tuple[str, str]:
    """What a run of tests says of a fault; a test that cannot even start says nothing."""
    if status in {0, 5}:
        return "SURVIVED", ""
    failed = re.search(r"^FAILED (.*?)(?: - .*)?$", output, re.MULTILINE)
    if status == 1 and failed:
        return "CAUGHT", failed[1]
    return "REFUSED", (output.strip().splitlines() or ["no output"])[-1]


@contextmanager
def planted_copy(fault: Fault, clean: Path) -> Iterator[tuple[Path, list[str]]]:
    """A copy of `clean` with the fault, for as long as it is needed, and the modules that the fault changes.

    Without compiled files: Python takes them for those of the planted file where it has the size and the second of the
    clean one.
    """
    with tempfile.TemporaryDirectory(prefix="fault-") as above:
        folder = Path(above) / "project"
        shutil.copytree(clean, folder, ignore=shutil.ignore_patterns("__pycache__"))
        changed = fault.planted(read_sources(folder))
        for name, text in changed.items():
            (folder / name).write_text(text)
        yield folder, [".".join(Path(name).with_suffix("").parts).removesuffix(".__init__") for name in changed]


def plant(fault: Fault, clean: Path, data: Path, own_only: bool) -> Outcome:
    """Plants a fault in a copy of `clean` and runs tests until one fails."""
    started = time.monotonic()
    with planted_copy(fault, clean) as (folder, modules):
        status, by = verdict(*run_tests(folder, modules, fault.tests))
        others = status == "SURVIVED" and not own_only
        if others:
            if data.exists():
                (folder / data.name).symlink_to(data.resolve())
            ignored = [f"--ignore=tests/{name}" for name in NOT_COUNTED]
            status, by = verdict(*run_tests(folder, modules, [*fault.tests, "tests"], *ignored))
    return Outcome(fault, status, by, time.monotonic() - started, others)


def failing_when_clean(clean: Path, files: Iterable[str], jobs: int) -> list[str]:
    """Which test files fail without any fault, so that their failing with one would mean nothing."""
    with ThreadPoolExecutor(jobs) as pool:
        found = pool.map(lambda file: (file, *run_tests(clean, (), [file])), sorted(set(files)))
        return [f"{file}: {verdict(status, output)[1]}" for file, status, output in found if status not in {0, 5}]


def run(
    faults: Sequence[Fault], root: Path, jobs: int, own_only: bool = False, say: Callable[[str], None] = print
) -> list[Outcome]:
    """The outcome of every fault, in order.

    Raises:
        ValueError: when a test file fails without any fault.
    """
    with tempfile.TemporaryDirectory(prefix="faults-") as above:
        clean = Path(above) / "project"
        copy_tracked(root, clean)
        failing = failing_when_clean(clean, (file for fault in faults for file in fault.tests), jobs)
        if failing:
            raise ValueError(f"without any fault: {'; '.join(failing)}")

        def outcome(fault: Fault) -> Outcome:
            found = plant(fault, clean, root / "datasets", own_only)
            say(f"{fault.id}: {found.status} {found.by} ({found.seconds:.0f} s)")
            return found

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(outcome, faults))


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes in Markdown."""
    lines = ["| fault | caught by | s |", "|---|---|---|"]
    for found in outcomes:
        by = f"`{found.by.removeprefix('tests/')}`" if found.by else ""
        marks = {"CAUGHT": by, "SURVIVED": "**SURVIVED**", "REFUSED": f"**REFUSED** {by}"}
        needs = " (among all tests, with CIFAR-10)" if found.others else ""
        says = f"{found.fault.says} ({found.fault.id})"
        lines.append(f"| {says} | {marks[found.status]}{needs} | {found.seconds:.0f} |")
    caught = sum(found.status == "CAUGHT" for found in outcomes)
    return "\n".join([*lines, "", f"{caught} of {len(outcomes)} faults are caught.", ""])


def main() -> int:
    """Runs the faults asked for, by default all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ids", nargs="*", help="faults to plant (default: all)")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="copies tested side by side (default: 2)")
    parser.add_argument("--own-tests", action="store_true", help="do not go on to the other tests where these pass")
    parser.add_argument("--table", type=Path, help="write the table here too")
    arguments = parser.parse_args()
    faults = [fault for fault in read_faults(FAULTS) if not arguments.ids or fault.id in arguments.ids]
    unknown = set(arguments.ids) - {fault.id for fault in faults}
    if unknown:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    outcomes = run(faults, ROOT, arguments.jobs, arguments.own_tests, lambda text: print(text, flush=True))
    text = table(outcomes)
    print(f"\n{text}")
    if arguments.table:
        arguments.table.write_text(text)
    return int(any(found.status != "CAUGHT" for found in outcomes))


if __name__ == "__main__":
    sys.exit(main())
