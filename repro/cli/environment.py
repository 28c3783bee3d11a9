"""What a number was computed with."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import torch

from repro.engine.device import describe_device

CODE = ["repro", "experiments", "dvc.yaml", "requirements.lock"]
"""What decides a number; other uncommitted files do not make a run unclean."""


_NO_NUMBER = {("data", "download"), ("data", "part"), ("data", "archive"), ("train", "log"),
              ("train", "cost")}  # fmt: skip
"""Files among those that train which decide no number: whoever mends a sentence in them may go on."""


def session(device: torch.device) -> dict[str, Any]:
    """What one process of a training runs on; a training that was interrupted has several."""
    return {
        "revision": _git("rev-parse", "HEAD") or _bundled(),
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "device_name": describe_device(device)["device_name"],
    }


def environment(
    device: torch.device, sessions: Sequence[Mapping[str, Any]], source: Mapping[str, str]
) -> dict[str, Any]:
    """Revision and whether it was clean, versions, device, duration and date of a training that ends now.

    The duration is that of all sessions; they are listed where there was more than one.
    """
    revision = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--", *CODE)
    return (
        {
            "revision": revision or _bundled(),
            "clean": changes == "" if revision else None,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(sum(one["seconds"] for one in sessions), 2),
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": numpy.__version__,
            "threads": torch.get_num_threads(),
            "source": hashlib.sha256(repr(sorted(source.items())).encode()).hexdigest(),
        }
        | describe_device(device)
        | ({"sessions": list(sessions)} if len(sessions) > 1 else {})
    )


def source_hashes() -> dict[str, str]:
    """SHA-256 of each file that decides what training computes."""
    package = Path(__file__).parent.parent
    found = {}
    for part in ("augment", "config", "data", "engine", "losses", "methods", "models", "optim", "seeding", "train"):
        place = package / part
        for path in sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
            if (part, path.stem) in _NO_NUMBER:
                continue
            found[str(path.relative_to(package))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _bundled() -> str:
    """The revision that `make bundle` took along, for a machine where there is no git."""
    path = Path("REVISION")
    return path.read_text().strip() if path.is_file() else "unknown"


def _git(*arguments: str) -> str | None:
    """What git prints, None without it; in a session of its own, which no signal to the process group reaches."""
    try:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True, start_new_session=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
