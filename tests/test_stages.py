"""The stages as DVC takes them: what it deletes, and what it and git pass over."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from repro.train.prepare import made_of
from tests.entry_points import call
from tests.test_structure import ANY_COMMAND, closure

ROOT = Path(__file__).parent.parent
SOURCES_AND_METHODS = sorted(f"repro.{path.parent.name}.{path.stem}" for room in ("data", "methods")
                             for path in (ROOT / "repro" / room).glob("[!_]*.py"))  # fmt: skip
LEFT = ["repro/__pycache__/files.cpython-311.pyc", "repro/old.pyc"]
"""What Python leaves in folders that stages depend on."""


def outs() -> dict[str, dict[str, bool]]:
    """Everything that a stage makes, with what dvc.yaml says of it."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    return {path: says for stage in stages for out in stage.get("do", stage)["outs"] for path, says in out.items()}


def test_nothing_finished_is_deleted_before_it_is_made_again() -> None:
    """Only configurations are, which `prepare` writes in a moment: one of a run that is no longer planned must go."""
    assert ["artifacts/configs"] == [path for path, says in outs().items() if not says.get("persist")]
    assert not any(says["cache"] for says in outs().values())


def test_compiled_files_do_not_change_a_stage(tmp_path: Path) -> None:
    """DVC itself passes over them, and not over the sources beside them."""
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    command = [sys.executable, "-m", "dvc", "check-ignore", *LEFT, "repro/files.py"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603 - pinned

    assert (0, LEFT) == (done.returncode, done.stdout.splitlines()), done.stderr


def declared(stage: str) -> set[str]:
    """The files and folders of the package that a stage depends on."""
    found = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    return {dep for dep in found.get("do", found)["deps"] if dep.startswith("repro")}


@pytest.mark.parametrize("module", SOURCES_AND_METHODS)
def test_training_depends_on_all_of_its_data_set_and_method(module: str) -> None:
    """What the stage does not declare stands in the run's configuration, for which the stage `prepare` looks at it."""
    reached = {str(path.relative_to(ROOT)) for path in closure(ROOT / Path(*module.split(".")).with_suffix(".py"))}
    known = declared("train") | ANY_COMMAND | set(made_of(module))

    assert [] == sorted(path for path in reached if not any(path == dep or path.startswith(f"{dep}/") for dep in known))
    assert [] == [path for path in made_of(module) if str(Path(path).parent) not in declared("prepare")]


def test_an_edited_data_set_or_method_is_of_its_own_runs_alone(tmp_path: Path) -> None:
    """The configuration of a run ends with the hashes of the files that are its own, and of no other's."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    (tmp_path / "params.yaml").write_text("runs: {digits_mpl: {seeds: 0}, moons_tuned_supervised: {seeds: 0-9}}\n")
    prepared = call(tmp_path, "prepare")
    assert prepared.returncode == 0, prepared.stderr

    own = {}
    for path in (tmp_path / "artifacts/configs").iterdir():
        lines = path.read_text().split("# data set and method are made of\n")[1].splitlines()
        own[path.stem] = dict(line.removeprefix("#   ").split() for line in lines)

    common = {"repro/data/images.py", "repro/data/sets.py", "repro/data/toys.py", "repro/methods/state.py",
              "repro/methods/supervised.py"}  # fmt: skip
    assert common == own["moons_tuned_supervised"].keys()
    assert common | {"repro/methods/mpl.py", "repro/methods/feedback.py"} == own["digits_mpl"].keys()
    for name, recorded in own["digits_mpl"].items():
        assert hashlib.sha256((ROOT / name).read_bytes()).hexdigest() == recorded
