"""`dvc plots show`: what dvc.yaml names is there. DVC itself passes over what it does not find."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

ROOT = Path(__file__).parent.parent


def plots() -> list[Any]:
    """The entries under `plots:`."""
    entries: list[Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
    return entries


def columns_drawn() -> Iterator[tuple[str, str]]:
    """File and column of every axis of every plot."""
    for entry in plots():
        for settings in entry.values() if isinstance(entry, dict) else ():
            for path, columns in settings["y"].items():
                for column in [settings["x"], *([columns] if isinstance(columns, str) else columns)]:
                    yield path, column


def test_plots_name_files_that_are_recorded() -> None:
    """Every file and folder under `plots:` exists; a file is the metrics of a recorded run."""
    files = {path for path, _ in columns_drawn()}

    assert files
    assert [] == sorted(path for path in files if not (ROOT / path).is_file())
    assert {"metrics.csv"} == {Path(path).name for path in files}
    assert [] == [entry for entry in plots() if isinstance(entry, str) and not (ROOT / entry).is_dir()]


def test_plots_name_columns_that_are_recorded() -> None:
    """Every column under `plots:` is in its file, with more than one number to draw."""
    missing = []
    for path, column in columns_drawn():
        frame = pd.read_csv(ROOT / path)
        if column not in frame or frame[column].dropna().size < 2:
            missing.append((path, column))

    assert [] == missing
