"""The stages as DVC takes them: what it deletes, and what it and git pass over."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
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


@pytest.mark.parametrize("linked", [False, True])
def test_git_passes_over_the_environment(linked: bool, tmp_path: Path) -> None:
    """A folder or a link to one."""
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)  # noqa: S607 - as everywhere
    if linked:
        (tmp_path / ".venv").symlink_to(tmp_path)
    else:
        (tmp_path / ".venv").mkdir()
        (tmp_path / ".venv/file").touch()

    status = ["git", "status", "--porcelain"]
    done = subprocess.run(status, cwd=tmp_path, capture_output=True, text=True, check=True)  # noqa: S603 - as above

    assert "?? .gitignore\n" == done.stdout
