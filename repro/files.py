"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: bytes) -> None:
    """Writes `content` to `path` through a temporary file beside it and one rename.

    Raises:
        OSError: naming the path, when the folder cannot be written or the disk is full; the old file is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def readable_json(value: Any, margin: str = "") -> str:
    """JSON with a line for each entry of a mapping, and lists on one line."""
    if not isinstance(value, dict):
        return json.dumps(value)
    entries = (f"{margin} {json.dumps(key)}: {readable_json(item, f'{margin} ')}" for key, item in value.items())
    return "{\n" + ",\n".join(entries) + f"\n{margin}}}"
