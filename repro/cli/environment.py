"""What a number was computed with."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import torch

from repro.engine import describe_device

CODE = ["repro", "experiments", "dvc.yaml", "requirements.lock"]
"""What decides a number; other uncommitted files do not make a run unclean."""


def environment(device: torch.device, seconds: float) -> dict[str, Any]:
    """Revision and whether it was clean, versions, device, duration and date of a training that ends now."""
    revision = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--", *CODE)
    return {
        "revision": revision or "unknown",
        "clean": changes == "" if revision else None,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "threads": torch.get_num_threads(),
    } | describe_device(device)


def source_hash() -> str:
    """SHA-256 over the names and contents of the files that decide what training computes."""
    package = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for part in ("augment", "config", "data", "engine", "losses", "methods", "models", "optim", "seeding", "train"):
        place = package / part
        for path in sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
            digest.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
