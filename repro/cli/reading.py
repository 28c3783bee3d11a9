"""How fast this machine reads images from files, and how many cores the images of an MPL step want.

    python -m repro.cli.reading <folder> [--size 224] [--readers 1 2] [--images 500] [--batch 16384] [--seconds 0.5]

Each image is opened, decoded, cropped at random and resized, as in training. Nothing is written.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

import numpy as np

from repro.cli.entry import run
from repro.data.images import ImageFiles, image_names, look
from repro.seeding import Streams


def main() -> None:
    """Prints images a second for each number of readers, and the cores that a step wants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=224, help="side in pixels of what is read (default: 224)")
    parser.add_argument("--readers", type=int, nargs="+", default=[1, 2], help="threads to try (default: 1 2)")
    parser.add_argument("--images", type=int, default=500, help="that are read (default: 500)")
    parser.add_argument("--batch", type=int, default=16_384, help="images of a step (default: 1,024 + 15,360)")
    parser.add_argument("--seconds", type=float, default=0.5, help="that a step takes (default: 0.5)")
    given = parser.parse_args()
    files = _files(given.folder, given.images, given.size)
    boxes = files.draw_boxes(Streams(0), "weak view", 0)
    files.read(boxes)  # so that the system has the files in memory: what is timed is the processor
    wide, high = (round(float(side)) for side in np.median(files.sides, axis=0))
    print(f"{len(files)} images, {wide} x {high} in the median, to {given.size} x {given.size}:")
    for readers in given.readers:
        begun, spent = time.monotonic(), time.process_time()
        files.read(boxes, readers)
        seconds, cores = time.monotonic() - begun, time.process_time() - spent
        print(
            f"  {readers} readers: {len(files) / seconds:,.0f} images/s, {len(files) / cores:,.0f} a second of one core"
        )
    rate = len(files) / cores
    wanted = math.ceil(given.batch / (given.seconds * rate))
    print(
        "cores wanted = images a step / (seconds a step x images/s of a core) = "
        f"{given.batch} / ({given.seconds:g} x {rate:,.0f}) = {wanted}; here are {os.cpu_count()}"
    )


def _files(folder: Path, count: int, size: int) -> ImageFiles:
    """Whole images of a folder, evenly spread over it."""
    names = image_names(folder) if folder.is_dir() else []
    chosen = names[:: max(1, len(names) // count)][:count]
    seen = {name: found for name in chosen if not (found := look(folder / name)).damage}
    if not seen:
        raise ValueError(f"there is no whole image below {folder}; name another folder")
    paths = np.array([os.fsencode(name) for name in seen], dtype=np.bytes_)
    sides = np.array([found.sides for found in seen.values()], dtype=np.int32)
    return ImageFiles(folder, paths, sides, np.zeros((len(paths), 16), dtype=np.uint8), size)


if __name__ == "__main__":
    run(main)
