"""Nested tensors and plain values in a file: the states that training resumes from, and its results."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from repro.files import write_whole


def save(path: Path, content: dict[str, Any]) -> None:
    """Saves nested tensors and plain values, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_whole(path, buffer.getvalue())


def load(path: Path) -> dict[str, Any]:
    """What `save` wrote; nothing in the file is executed."""
    content: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    return content
