"""What `make bundle` takes along is all that training wants beside PyTorch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from repro.train.job import session
from tests.tiny import CPU

PROJECT = Path(__file__).parents[1]
IMPORTED_AS = {"antlr4-python3-runtime": "antlr4", "hydra-core": "hydra", "python-dateutil": "dateutil"}
WITH_PYTORCH = {"torch", "torchgen", "functorch", "triton", "nvidia", "cuda", "typing_extensions", "sympy", "mpmath",
                "networkx", "jinja2", "markupsafe", "filelock", "fsspec", "numpy", "PIL", "yaml"}  # fmt: skip

_ALONE = """
import importlib.util, runpy, sys
allowed, module, *arguments = sys.argv[1:]
class Others:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if path is None and top not in {*allowed.split(","), *sys.stdlib_module_names} and not top.startswith("_"):
            raise ModuleNotFoundError(f"No module named {name!r} in the bundle", name=name)
sys.meta_path.insert(0, Others())
sys.argv = [module, *arguments]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
"""An entry point that finds only what it may import."""


def wheels() -> list[str]:
    """Of the Makefile."""
    (line,) = re.findall(r"^WHEELS := (.*)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    return str(line).split()


@pytest.mark.slow
def test_the_wheels_are_all_that_a_run_wants(tmp_path: Path) -> None:
    """Prepare, train and evaluate, where nothing else can be imported; without one of the wheels they do not start."""
    (tmp_path / "experiments").symlink_to(PROJECT / "experiments")
    run = {"experiment": "moons_tuned_mpl", "seeds": "0-1", "overrides": ["budget.steps=20", "budget.log_every=10"]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"runs": {"tiny": run}}))
    names = {IMPORTED_AS.get(name, name) for name in wheels()} | WITH_PYTORCH | {"repro", "pytz", "tzdata"}

    def complaint(allowed: set[str], *arguments: str) -> str:
        done = subprocess.run(  # noqa: S603 - our own entry points
            [sys.executable, "-c", _ALONE, ",".join(allowed), *arguments], cwd=tmp_path, capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": str(PROJECT)}, check=False,
        )  # fmt: skip
        assert (done.returncode == 0) == (done.stderr == ""), done.stderr
        return done.stderr

    assert "No module named 'omegaconf' in the bundle" in complaint(names - {"omegaconf"}, "repro.cli.prepare")
    for stage in (["prepare"], ["train", "tiny", "--seeds", "0-1"], ["evaluate"]):
        assert "" == complaint(names, f"repro.cli.{stage[0]}", *stage[1:])
    assert list((tmp_path / "results/runs/tiny").iterdir())


def test_the_wheels_are_pinned() -> None:
    """Each has a line in the lock, from which its version is taken."""
    lock = (PROJECT / "requirements.lock").read_text()

    assert [] == [name for name in wheels() if not re.search(rf"^{name}==\S+", lock, re.MULTILINE)]


def test_a_bundle_knows_its_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no git, what `make bundle` wrote; where that is missing too, it is unknown."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    assert "unknown" == session(CPU)["revision"]
    (tmp_path / "REVISION").write_text("0123abcd\n")
    assert "0123abcd" == session(CPU)["revision"]
