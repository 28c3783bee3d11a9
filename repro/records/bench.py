"""results/bench/: how fast a step was, one file for each device and step, and the page that shows them all."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from repro.files import readable_json, write_whole
from repro.records.runs import read_record
from repro.bench.page import page

BENCH = Path("results/bench")


def write_bench(record: dict[str, Any], root: Path = BENCH) -> Path:
    """Writes a record under the names of its device and step, in the place of an older one, and the page anew."""
    device = re.sub(r"[^a-z0-9]+", "-", record["environment"]["device_name"].lower()).strip("-")
    step = record["step"]
    path = root / f"{device}-{step['experiment']}-{step['labelled']}-{step['unlabelled']}.json"
    write_whole(path, (readable_json(record) + "\n").encode())
    write_page(root)
    return path


def write_page(root: Path = BENCH) -> None:
    """The tables of all records, in the order of their files."""
    write_whole(root / "README.md", page(read_benches(root)).encode())


def read_benches(root: Path = BENCH) -> list[dict[str, Any]]:
    """All records.

    Raises:
        RecordError: when one is damaged.
    """
    remedy = "measure again: make bench"
    return [read_record(path, lambda text: dict(json.loads(text)), remedy) for path in sorted(root.glob("*.json"))]
