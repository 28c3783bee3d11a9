"""Is requirements.lock what pyproject.toml asks for? By resolving again, or without network by the pins themselves."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

RESOLVE = (
    "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url",
    "--no-annotate", "--group", "dev", "pyproject.toml", "--output-file",
)  # fmt: skip
"""As `make lock` calls uv; a test holds that."""

_HASH = re.compile(r"--hash=(\S+)")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_REMEDY = "renew it with: make lock"


@dataclass(frozen=True)
class Pin:
    """One entry of the lock."""

    name: str
    version: str
    marker: str
    hashes: frozenset[str]


def read_pins(text: str) -> list[Pin]:
    """All entries of a lock; a line without `==` has the version "".

    Raises:
        ValueError: for a line that is no requirement.
    """
    pins = []
    for entry in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        if entry.strip() and not entry.startswith("#"):
            requirement = Requirement(entry.split(" --hash=")[0])
            version = str(requirement.specifier).removeprefix("==") if "==" in str(requirement.specifier) else ""
            name, marker = canonicalize_name(requirement.name), str(requirement.marker or "")
            pins.append(Pin(name, version, marker, frozenset(_HASH.findall(entry))))
    return pins


def wanted(project: str) -> list[Requirement]:
    """What pyproject.toml asks for, development tools too."""
    content = tomllib.loads(project)
    return [Requirement(line) for line in (*content["project"]["dependencies"], *content["dependency-groups"]["dev"])]


def offline_problems(project: str, lock: str) -> list[str]:
    """What can be said without an index: pins that are missing, too old, or without hashes."""
    pins = read_pins(lock)
    problems = []
    for requirement in wanted(project):
        mine = [pin for pin in pins if pin.name == canonicalize_name(requirement.name)]
        if not mine:
            problems.append(f"requirements.lock has no pin for {requirement}; {_REMEDY}")
        problems += [
            f"requirements.lock pins {pin.name} {pin.version}, but pyproject.toml wants {requirement}; {_REMEDY}"
            for pin in mine
            if not pin.version or not requirement.specifier.contains(pin.version, prereleases=True)
        ]
    for pin in pins:
        if not pin.version:
            problems.append(f"requirements.lock does not pin {pin.name} to one version; {_REMEDY}")
        if not pin.hashes or not all(_SHA256.fullmatch(value) for value in pin.hashes):
            problems.append(f"requirements.lock has no SHA-256 for {pin.name}, or a damaged one; {_REMEDY}")
    return problems


def differences(lock: str, resolved: str) -> list[str]:
    """Pins that resolving anew, with the existing ones kept where they can be, adds, drops or changes.

    More files of a pinned version are no difference: makers add wheels for newer Pythons. A hash that the index does
    not know is one.
    """
    ours, theirs = ({(p.name, p.version, _ordered(p.marker)): p for p in read_pins(text)} for text in (lock, resolved))
    lacks, leftover = theirs.keys() - ours.keys(), ours.keys() - theirs.keys()
    unknown = [key for key in ours.keys() & theirs.keys() if not ours[key].hashes <= theirs[key].hashes]
    problems = [f"requirements.lock lacks {_said(key)}, which pyproject.toml leads to; {_REMEDY}" for key in lacks]
    problems += [f"requirements.lock pins {_said(key)}, which pyproject.toml does not; {_REMEDY}" for key in leftover]
    problems += [
        f"the index does not know a hash that requirements.lock has of {_said(key)}; {_REMEDY}" for key in unknown
    ]
    return sorted(problems)


def _ordered(marker: str) -> str:
    return str(Marker(marker)) if marker else ""


def _said(key: tuple[str, str, str]) -> str:
    name, version, marker = key
    return f"{name} {version} ({marker})" if marker else f"{name} {version}"


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
    if "No solution found" in done.stderr:
        return [*problems, f"pyproject.toml cannot be satisfied: {_last(done.stderr)}; widen a range"], "resolved again"
    return problems, f"pins and hashes only, since the package index cannot be reached ({_last(done.stderr)})"


def _last(text: str) -> str:
    return re.sub(r"https?://\S+", "<address>", (text.strip().splitlines() or ["no output"])[-1].strip())
