"""Is requirements.lock what pyproject.toml asks for? By resolving again, or without network by the pins themselves.

Hashes are checked by every installation.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

RESOLVE = (
    "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url",
    "--no-annotate", "--group", "dev", "pyproject.toml", "--output-file",
)  # fmt: skip
"""As `make lock` calls uv; a test holds that."""

_REMEDY = "renew it with: make lock"


def pins(lock: str) -> list[str]:
    """`name==version ; marker` of each entry."""
    return [line.removesuffix("\\").strip() for line in lock.splitlines() if line[:1].isalnum()]


def offline_problems(project: str, lock: str) -> list[str]:
    """What can be said without an index: requirements without a pin, or whose pin is too old or is none."""
    content, versions = tomllib.loads(project), {}
    for pin in map(Requirement, pins(lock)):
        versions.setdefault(canonicalize_name(pin.name), []).append(str(pin.specifier).removeprefix("=="))
    problems = []
    for wanted in map(Requirement, (*content["project"]["dependencies"], *content["dependency-groups"]["dev"])):
        mine = versions.get(canonicalize_name(wanted.name), [])
        if not mine or not all(v[0].isdigit() and wanted.specifier.contains(v, prereleases=True) for v in mine):
            problems.append(f"requirements.lock pins {mine or 'nothing'} for {wanted}; {_REMEDY}")
    return problems


def differences(lock: str, resolved: str) -> list[str]:
    """Pins that resolving anew, with the existing ones kept where they can be, adds, drops or changes."""
    ours, theirs = (set(pins(text)) for text in (lock, resolved))
    problems = [f"requirements.lock lacks {pin}, which pyproject.toml leads to; {_REMEDY}" for pin in theirs - ours]
    return problems + [f"requirements.lock pins {pin}, and pyproject.toml not; {_REMEDY}" for pin in ours - theirs]


def check(root: Path, uv: str = "uv") -> tuple[list[str], str]:
    """Problems of the lock, and how it was checked. Nothing in `root` is written."""
    project, lock = (root / "pyproject.toml").read_text(), (root / "requirements.lock").read_text()
    problems = offline_problems(project, lock)
    with tempfile.TemporaryDirectory(prefix="lock-") as above:
        for name in ("pyproject.toml", "requirements.lock"):
            shutil.copy2(root / name, above)
        done = subprocess.run(  # noqa: S603 - the project's own tool
            [uv, *RESOLVE, "requirements.lock"], cwd=above, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return problems + differences(lock, (Path(above) / "requirements.lock").read_text()), "resolved again"
    last = re.sub(r"https?://\S+", "<address>", (done.stderr.strip().splitlines() or ["no output"])[-1].strip())
    if "No solution found" in done.stderr:
        return [*problems, f"pyproject.toml cannot be satisfied: {last}; widen a range"], "resolved again"
    return problems, f"pins only, since the package index cannot be reached ({last})"
