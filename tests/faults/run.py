"""Plants every fault of faults.yaml in a copy of the project and says which of its tests catches it.

    python -m tests.faults.run [<id> ...] [-j 2]

Only tests that know why count: none that compares with recorded numbers. Exits with 1 unless every fault is caught.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FAULTS = Path(__file__).with_name("faults.yaml")
SOURCES = "repro"
NOT_COUNTED = ("test_claims.py", "test_faults.py", "test_structure.py")
"""They compare with recorded results, or look at text and not at behaviour."""

_NO_GOLDENS = "not are_the_recorded_ones"  # such tests fail after any change, a harmless one too
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
    """A mistake that a reviewer would name, and the edits that plant it."""

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
            pattern = re.compile(r"\s+".join(map(re.escape, old.split())))  # however lines are broken and indented
            found = [name for name, text in now.items() for _ in pattern.findall(text)]
            if len(found) != 1 or old == new:
                raise ValueError(f"{self.id}: {old!r} stands {len(found)} times in {SOURCES}/; wants 1, changed")
            changed[found[0]] = pattern.sub(lambda _, new=new: new, now[found[0]])  # type: ignore[misc]
        return changed


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
    """Copies what git tracks, as it stands in the folder now; links as links."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True)  # noqa: S607
    for name in filter(None, listed.stdout.split("\0")):
        if (root / name).is_file() or (root / name).is_symlink():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name, follow_symlinks=False)


def run_tests(folder: Path, modules: Iterable[str], tests: Iterable[str]) -> tuple[int, str]:
    """Pytest's status and output in a fresh process that has imported `modules` from `folder`."""
    arguments = ["-x", "-q", "-p", "no:cacheprovider", "-k", _NO_GOLDENS, *tests]
    done = subprocess.run(  # noqa: S603 - the project's own tests
        [sys.executable, "-c", _START, ",".join(modules), *arguments],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def verdict(status: int, output: str) -> tuple[str, str]:
    """CAUGHT by which test, SURVIVED, or REFUSED and why: a test that cannot even start says nothing."""
    if status in {0, 5}:
        return "SURVIVED", ""
    failed = re.search(r"^FAILED (.*?)(?: - .*)?$", output, re.MULTILINE)
    if status == 1 and failed:
        return "CAUGHT", failed[1]
    return "REFUSED", (output.strip().splitlines() or ["no output"])[-1]


def plant(fault: Fault, clean: Path) -> tuple[str, str]:
    """Plants a fault in a copy of `clean` and runs its tests until one fails; the verdict.

    The copy is without compiled files: Python takes them for those of the planted file where it has the size and the
    second of the clean one.
    """
    with tempfile.TemporaryDirectory(prefix="fault-") as above:
        folder = Path(above) / "project"
        shutil.copytree(clean, folder, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
        changed = fault.planted(read_sources(folder))
        for name, text in changed.items():
            (folder / name).write_text(text)
        modules = [".".join(Path(name).with_suffix("").parts).removesuffix(".__init__") for name in changed]
        return verdict(*run_tests(folder, modules, fault.tests))


def run(faults: Sequence[Fault], root: Path, jobs: int, say: Callable[[str], None] = print) -> list[tuple[str, str]]:
    """The verdict on every fault, in order.

    Raises:
        ValueError: when a test file fails without any fault, so that its failing with one would mean nothing.
    """
    with tempfile.TemporaryDirectory(prefix="faults-") as above, ThreadPoolExecutor(jobs) as pool:
        clean = Path(above) / "project"
        copy_tracked(root, clean)
        if (root / "datasets").exists():
            (clean / "datasets").symlink_to((root / "datasets").resolve())
        files = sorted({file for fault in faults for file in fault.tests})
        for file, found in zip(files, pool.map(lambda file: run_tests(clean, (), [file]), files), strict=True):
            if found[0] not in {0, 5}:
                raise ValueError(f"without any fault: {file}: {verdict(*found)[1]}")

        def outcome(fault: Fault) -> tuple[str, str]:
            status, by = plant(fault, clean)
            say(f"{fault.id}: {status} {by} ({fault.says})")
            return status, by

        return list(pool.map(outcome, faults))


def main() -> int:
    """Runs the faults asked for, by default all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ids", nargs="*", help="faults to plant (default: all)")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="copies tested side by side (default: 2)")
    arguments = parser.parse_args()
    faults = [fault for fault in read_faults(FAULTS) if not arguments.ids or fault.id in arguments.ids]
    unknown = set(arguments.ids) - {fault.id for fault in faults}
    if unknown:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    found = run(faults, ROOT, arguments.jobs, lambda text: print(text, flush=True))
    caught = sum(status == "CAUGHT" for status, _ in found)
    print(f"{caught} of {len(found)} faults are caught.")
    return int(caught < len(found))


if __name__ == "__main__":
    sys.exit(main())
