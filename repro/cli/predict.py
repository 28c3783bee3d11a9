"""Classifies any images with a model that `fit` left: a folder, or single files.

    python -m repro.cli.predict <model> <folder or image> ... --csv predictions.csv [--probabilities]

The CSV has a line for each image, in the order given and by name within a folder: path, class, confidence. An image
that cannot be read has an empty class; it is counted, and the first such are named with the reason. As many processors
are used as are free, so that the last digits of probabilities may differ from call to call.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from repro.cli.entry import run
from repro.cli.fit import MODEL
from repro.data.folder import image_names
from repro.engine.device import free_processors, set_up_process
from repro.evaluate.model import TrainedModel, load_model, predictions
from repro.train.storage import Damaged, OtherFormat

_NAMED = 10  # unreadable images on the screen
_SAY_EVERY = 5.0  # seconds


def main() -> None:
    """Predicts, writes, counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the folder that fit left")
    parser.add_argument("images", nargs="+", help="folders or image files")
    parser.add_argument("--csv", type=Path, help="the file to write (default: the screen)")
    parser.add_argument("--probabilities", action="store_true", help="a column for each class too")
    arguments = parser.parse_args()
    set_up_process(free_processors())
    model, names = opened(arguments.model), _names(arguments.images)
    counts: Counter[str] = Counter()
    begun = time.monotonic()
    with _output(arguments.csv) as file:
        _write(file, model, names, counts, arguments.probabilities)
    seconds = time.monotonic() - begun
    parts = [f"{name} {counts[name]:,}" for name in model.class_names if counts[name]]
    print(f"{len(names):,} images in {seconds:.0f} s: {', '.join(parts) or 'none could be read'}", file=sys.stderr)
    if counts[""]:
        print(f"{counts['']:,} could not be read: an empty class in the CSV", file=sys.stderr)


def opened(folder: Path) -> TrainedModel:
    """The model of a folder, or in a file.

    Raises:
        ValueError: when it is not there, unfinished, or damaged.
    """
    path = folder / MODEL if folder.is_dir() else folder
    if not path.is_file():
        begun = " yet: run the fit again to go on" if (folder / "settings.yaml").is_file() else ""
        raise ValueError(
            f"{folder} holds no trained model{begun or ', which fit would have left there: name its --out'}"
        )
    try:
        return load_model(path)
    except (Damaged, OtherFormat) as error:
        raise ValueError(f"{error}; fit it again, or restore it from a copy") from error


def _names(given: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in given:
        if Path(name).is_dir():
            found += [str(Path(name) / below) for below in image_names(Path(name))]
        elif Path(name).exists():
            found.append(name)
        else:
            raise ValueError(f"{name} is neither a folder nor a file; name the images to classify")
    if not found:
        raise ValueError(f"there is no image in {', '.join(given)}")
    return found


def _write(file: TextIO, model: TrainedModel, names: Sequence[str], counts: Counter[str], everything: bool) -> None:
    writer = csv.writer(file)
    writer.writerow(["path", "class", "confidence", *(model.class_names if everything else [])])
    told = time.monotonic()
    for number, (name, damage, shares) in enumerate(predictions(model, names), 1):
        if shares is None:
            counts[""] += 1
            writer.writerow([name, "", "", *([""] * len(model.class_names) if everything else [])])
            if counts[""] <= _NAMED:
                print(f"cannot be read: {os.fsencode(name).decode(errors='replace')}: {damage}", file=sys.stderr)
            continue
        best = int(shares.argmax())
        counts[model.class_names[best]] += 1
        more = [f"{share:.4f}" for share in shares] if everything else []
        writer.writerow([name, model.class_names[best], f"{shares[best]:.4f}", *more])
        if time.monotonic() - told > _SAY_EVERY:
            told = time.monotonic()
            print(f"{number:,} of {len(names):,} images", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    """The screen, or a file that takes its name when it is whole; until then it grows as `<name>.part`."""
    if path is None:
        sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
        yield sys.stdout
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        yield file
    part.replace(path)


if __name__ == "__main__":
    run(main)
