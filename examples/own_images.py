"""What a pretrained start is worth on your own images: linear probe, supervised, UDA and MPL on small data sets.

    python examples/own_images.py [--sets cifar10 svhn tiny] [--labels 200] [--minutes 2] [--seeds 0-4]

Each set is written as files in class folders, ten classes with up to 300 training and 100 test images each; then
`repro fit --compare` trains each method from the same start, with other labels for each seed, and `repro predict`
leaves what each model says of each test image in a table, <place>/<set>.csv. Sets that are not in `datasets/` are named
and left out: `repro prepare` of a plan with CIFAR-10 or SVHN fetches those, and datasets/tiny-imagenet is the official
zip, unpacked. It takes sets x seeds x 3 methods x minutes: two hours as it is, with the time to predict.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from repro.settings import parse_seeds

METHODS = ["probe", "supervised", "uda", "mpl"]
Pictures = Iterator[tuple[str, str, np.ndarray | Image.Image]]
"""Part, class and pixels of one image after another."""


def cifar10(root: Path) -> Pictures:
    """Colour images of animals and vehicles, 32 pixels."""
    from torchvision.datasets import CIFAR10

    for part in ("train", "test"):
        found = CIFAR10(str(root), train=part == "train")
        yield from ((part, found.classes[k], image) for image, k in found)


def svhn(root: Path) -> Pictures:
    """House numbers, 32 pixels: of the test file, which is the smaller one, every third image to test on."""
    from torchvision.datasets import SVHN

    for number, (image, k) in enumerate(SVHN(str(root), split="test")):
        yield _third(number), f"digit {k}", image


def tiny(root: Path) -> Pictures:
    """The first ten classes of Tiny ImageNet, 64 pixels: of the training images, every third one to test on."""
    for folder in sorted((root / "tiny-imagenet/train").iterdir())[:10]:
        for number, path in enumerate(sorted(folder.rglob("*.JPEG"))):
            yield _third(number), folder.name, Image.open(path)


def _third(number: int) -> str:
    return "train" if number % 3 else "test"


SETS = {"cifar10": cifar10, "svhn": svhn, "tiny": tiny}


def write(name: str, place: Path, train: int, test: int) -> bool:
    """Writes a set as files, so many of each class, unless it is there; whether it is."""
    if (place / "whole").is_file():
        return True
    left: dict[tuple[str, str], int] = {}
    try:
        for part, label, image in SETS[name](Path("datasets")):
            at = left.setdefault((part, label), train if part == "train" else test)
            if at:
                left[part, label] -= 1
                path = place / "images" / part / label / f"{at}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                (Image.fromarray(image) if isinstance(image, np.ndarray) else image).convert("RGB").save(path)
    except (OSError, RuntimeError) as error:
        print(f"{name}: left out, it is not in datasets/ ({error})")
        return False
    (place / "whole").touch()
    return True


def tabulate(place: Path, seeds: Iterable[int]) -> pd.DataFrame:
    """What each model says of each test image, and its label, as numbers of the classes."""
    models = {f"{method} {seed}": place / "models" / f"{method}-{seed}" for seed in seeds for method in METHODS}
    columns: dict[str, pd.Series] = {}
    for name, model in models.items():
        path = model.with_suffix(".csv")
        command = [sys.executable, "-m", "repro", "predict", str(model), str(place / "images/test"), "--csv", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
        columns[name] = pd.read_csv(path, index_col="path", keep_default_na=False)["class"]
    table = pd.DataFrame(columns)
    table.index = [str(Path(path).relative_to(place / "images/test")) for path in table.index]
    table.insert(0, "label", [Path(path).parent.name for path in table.index])
    numbers = {label: number for number, label in enumerate(sorted(table["label"].unique()))}
    table = table.replace(numbers).rename_axis("image").reset_index()
    table.insert(0, "set", place.name)
    return table


def main() -> int:
    """Writes and trains; the exit status of the first comparison that stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--labels", default="200")
    parser.add_argument("--minutes", default="2", help="of each fit")
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--backbone", default="auto")
    parser.add_argument("--train", type=int, default=300, help="images of each class")
    parser.add_argument("--test", type=int, default=100, help="images of each class")
    parser.add_argument("--place", type=Path, default=Path("artifacts/own_images"))
    given, more = parser.parse_known_args()
    for name in given.sets:
        place = given.place / name
        if not write(name, place, given.train, given.test):
            continue
        print(f"\n# {name}: {given.labels} labels, {given.minutes} minutes a fit", flush=True)
        command = [sys.executable, "-m", "repro", "fit", str(place / "images"), "--compare", *METHODS,
                   "--backbone", given.backbone, "--labels", given.labels, "--minutes", given.minutes,
                   "--seeds", given.seeds, "--out", str(place / "models"), *more]  # fmt: skip
        status = subprocess.run(command, check=False).returncode  # noqa: S603 - our own
        if status:
            return status
        tabulate(place, parse_seeds(given.seeds)).to_csv(given.place / f"{name}.csv", index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
