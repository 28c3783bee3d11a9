"""The project's shape: imports point one way, stages declare what they reach, test data stay behind their door."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
ORDER = ["files", "settings", "seeding", "rooms", "config", "plan", "results", "losses", "augment", "data", "models",
         "optim", "methods", "library", "engine", "train", "evaluate", "verify", "report", "cost", "slurm", "jobs",
         "bench", "trial", "retrain", "fit", "__main__"]  # fmt: skip
"""Each may import what stands before it. `rooms` are the settings of augmentation, data, models and methods."""
RANK = {name: rank for rank, name in enumerate(ORDER)}
ROOMS = {"repro.augment", "repro.data", "repro.models", "repro.methods"}
MODULES = sorted((ROOT / "repro").rglob("*.py"))


@cache
def imports(path: Path) -> frozenset[str]:
    """All `repro.*` modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(name for name in found if name.startswith("repro.") and file_of(name))


def file_of(module: str) -> Path | None:
    """The file of a dotted name; None where the name is something inside a module."""
    base = ROOT / Path(*module.split("."))
    candidates = [base.with_suffix(".py"), base / "__init__.py"]
    return next((path for path in candidates if path.is_file()), None)


def part(module: str) -> str:
    """The part of the layout that a module belongs to."""
    return "rooms" if module in ROOMS else module.split(".")[1]


@pytest.mark.parametrize("path", [p for p in MODULES if p != ROOT / "repro/__init__.py"], ids=str)
def test_imports_point_one_way(path: Path) -> None:
    """A part of the layout imports only what stands to its left."""
    mine = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    lazily = {"repro.data.sets"} if mine == "repro.data" else set()  # for types alone

    wrong = [name for name in imports(path) - lazily if RANK[part(name)] > RANK[part(mine)]]

    assert wrong == []


def closure(start: Path) -> set[Path]:
    """Every project file that importing `start` runs, the packages' own included."""
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        packages = [ROOT / folder / "__init__.py" for folder in path.relative_to(ROOT).parents]
        waiting += [package for package in packages if package.is_file()]
        waiting += [found for name in imports(path) if (found := file_of(name))]
    return seen


def test_training_cannot_reach_evaluation() -> None:
    """Evaluation alone opens test data; and a lent machine needs torch, numpy, pydantic and a YAML reader only."""
    reached = closure(ROOT / "repro/train/launch.py")
    top = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name or "").split(".")[0]
        for p in reached for node in ast.parse(p.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)
    }  # fmt: skip

    assert {"evaluate", "verify"} & {path.relative_to(ROOT / "repro").parts[0] for path in reached} == set()
    assert {"hydra", "dvc", "pandas", "matplotlib", "scipy"} & top == set()


STARTS = {"train": "train/launch.py", "evaluate": "evaluate/evaluate.py", "verify": "verify/rules.py"}
ANY_COMMAND = {"repro/__init__.py", "repro/files.py", "repro/engine", "repro/seeding.py"}
"""What every command runs through and what decides no result by itself, or does so in the stage before."""


@pytest.mark.parametrize("stage", STARTS)
def test_a_stage_declares_what_it_reaches(stage: str) -> None:
    """Training declares every module that it imports; later stages those that decide what they write."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    declared = {dep for dep in stages[stage].get("do", stages[stage])["deps"] if dep.startswith("repro")}
    reached = {str(path.relative_to(ROOT)) for path in closure(ROOT / "repro" / STARTS[stage])}

    assert [] == [dep for dep in declared if not any(path == dep or path.startswith(f"{dep}/") for path in reached)]
    if stage == "train":
        free = declared | ANY_COMMAND
        assert [] == sorted(p for p in reached if not any(p == dep or p.startswith(f"{dep}/") for dep in free))


def test_random_numbers_come_from_named_streams() -> None:
    """No module draws from a global generator; but for the plain implementation, which is torch's own all through."""
    forbidden = ("torch.rand", "torch.manual_seed", "np.random", "numpy.random", "import random", "torch.multinomial")

    drawing = [path for path in MODULES if any(word in path.read_text() for word in forbidden)]

    assert drawing == [ROOT / "repro/bench/plain.py"]


def test_the_house_stays_small() -> None:
    """A file holds one thought, in up to 500 lines; there are at most 70 of them."""
    long = {str(path.relative_to(ROOT)): n for path in MODULES if (n := len(path.read_text().splitlines())) > 500}

    assert {} == long
    assert len([path for path in MODULES if path.name != "__init__.py"]) <= 70


def test_no_file_names_what_users_do_not_have() -> None:
    """No test or message names a folder beside the project, and no file a registry's host."""
    names = ("../sha" + "red", "p" + "ypi.org", "pythonhos" + "ted")
    folders = [ROOT / name for name in ("repro", "tests", "experiments")]
    texts = {
        path: path.read_text()
        for folder in folders
        for path in folder.rglob("*")
        if path.suffix in {".py", ".yaml", ".md"}
    }

    assert [] == [str(path) for path, text in texts.items() if any(name in text for name in names)]
