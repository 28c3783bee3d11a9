"""What a number was computed with."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
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


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
