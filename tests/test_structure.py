"""The project's shape: imports point one way, stages declare what they reach, test data stay behind their door."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
ORDER = [
    ["files", "config", "seeding"],
    ["augment"],
    ["data"],
    ["models", "losses", "optim"],
    ["methods"],
    ["engine", "train"],
    ["evaluate"],
    ["bench"],
    ["verify"],
    ["report"],
    ["records"],
    ["cli"],
]
"""Each may import what stands before it, in its own row too."""
RANK = {name: rank for rank, name in enumerate(name for row in ORDER for name in row)}
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


def part(path: Path) -> str:
    """The part of the layout that a file belongs to."""
    return path.relative_to(ROOT / "repro").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent != ROOT / "repro" or p.name != "__init__.py"], ids=str)
def test_imports_point_one_way(path: Path) -> None:
    """A part of the layout imports only what stands to its left."""
    mine = RANK[part(path)]

    wrong = [name for name in imports(path) if RANK[name.split(".")[1]] > mine]

    assert wrong == []


def test_methods_do_not_import_each_other() -> None:
    """A method can be read without another one."""
    methods = {"supervised", "pseudo_label", "uda", "fixmatch", "mpl"}

    crossing = {
        name: sorted(imports(ROOT / f"repro/methods/{name}.py") & {f"repro.methods.{m}" for m in methods - {name}})
        for name in methods
    }

    assert {name: [] for name in methods} == crossing


def test_training_cannot_reach_evaluation() -> None:
    """Evaluation alone opens test data (tests/test_data.py), and nothing that trains imports it."""
    for stage in ("train", "prepare"):
        assert "evaluate" not in {part(path) for path in closure(ROOT / f"repro/cli/{stage}.py")}


def stages() -> dict[str, dict[str, object]]:
    """The stages of dvc.yaml, a repeated one once."""
    return {
        name: stage.get("do", stage)
        for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items()
    }


@pytest.mark.parametrize("stage", ["prepare", "train", "evaluate", "verify", "report"])
def test_a_stage_declares_every_module_it_reaches(stage: str) -> None:
    """A change of any module that a stage imports runs the stage again."""
    declared = [ROOT / dep for dep in stages()[stage]["deps"]]

    undeclared = [
        str(path.relative_to(ROOT))
        for path in closure(ROOT / f"repro/cli/{stage}.py")
        if not any(path == dep or dep in path.parents for dep in declared)
    ]

    assert sorted(undeclared) == []


@pytest.mark.parametrize("stage", ["prepare", "train", "evaluate", "verify", "report"])
def test_a_stage_declares_no_module_it_does_not_reach(stage: str) -> None:
    """Nothing is trained again for a file that training never reads."""
    reached = closure(ROOT / f"repro/cli/{stage}.py")
    declared = [ROOT / str(dep) for dep in stages()[stage]["deps"] if str(dep).startswith("repro")]

    idle = [str(dep) for dep in declared if not any(path == dep or dep in path.parents for path in reached)]

    assert idle == []


def test_training_needs_neither_hydra_nor_dvc() -> None:
    """A machine lent for training only needs torch, numpy and a YAML reader."""
    heavy = {"hydra", "dvc", "pandas", "matplotlib", "scipy"}
    top = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name or "").split(".")[0]
        for path in closure(ROOT / "repro/cli/train.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    }

    assert heavy & top == set()


def test_random_numbers_come_from_named_streams() -> None:
    """No module draws from a global generator; but for the plain implementation, which is torch's own all through."""
    forbidden = ("torch.rand", "torch.manual_seed", "np.random", "numpy.random", "import random", "torch.multinomial")

    drawing = [path for path in MODULES if any(word in path.read_text() for word in forbidden)]

    assert drawing == [ROOT / "repro/bench/plain.py"]


def test_files_stay_small() -> None:
    """A file holds one thought, in up to 500 lines."""
    long = {str(path.relative_to(ROOT)): n for path in MODULES if (n := len(path.read_text().splitlines())) > 500}

    assert {} == long
