"""The same images, labels, pretrained weights and minutes for fastai's `fine_tune`, which many would use instead.

    pip install fastai && python examples/own_images_fastai.py artifacts/own_images/cifar10 [--minutes 2] [--seeds 0-4]

It follows `own_images.py`, and adds a column for each seed to the set's table. Settings are fastai's own: one epoch of
the head alone, then of the whole network, one-cycle rates, its usual augmentations; batches, size and threads are those
of `repro fit`. As many epochs as fit into the minutes by the time of two; these, and predicting, are within them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd
import torch
from fastai.vision.all import ImageDataLoaders, Learner, Normalize, Resize, aug_transforms, vision_learner

from repro.config import read_config_file
from repro.data import source_of
from repro.models.pretrained import AUTO, HALF, named
from repro.settings import parse_seeds

SIZE, BATCH = 128, 16


def learner(files: pd.DataFrame) -> Learner:
    """EfficientNet-Lite0 with fastai's head on the labelled images, none of which is held out."""
    loaders = ImageDataLoaders.from_df(
        files, path="/", valid_pct=0, item_tfms=Resize(SIZE + SIZE // 4), bs=BATCH, num_workers=0,
        batch_tfms=[*aug_transforms(size=SIZE), Normalize.from_stats(HALF, HALF)],
    )  # fmt: skip
    made = vision_learner(loaders, AUTO, pretrained=False, normalize=False)
    weights, body = named("auto", None, 2)[1].state_dict(), made.model[0].model
    body.load_state_dict({name: weights[name] for name in body.state_dict()})
    return made


def labelled(model: Path) -> pd.DataFrame:
    """The images that a fit learned from, and their classes, which their folders name."""
    config = read_config_file(model / "settings.yaml")
    seed = int(config.planned_seeds)
    source = source_of(config.data)
    source.prepare()
    images = source.training_set(seed).labelled
    paths = [images.path(number) for number in range(len(images))]  # type: ignore[union-attr]
    return pd.DataFrame({"name": map(str, paths), "label": [path.parent.name for path in paths]})


def answers(place: Path, seed: int, minutes: float) -> dict[str, str]:
    """The class of each test image, by its path below `test`."""
    begun = time.monotonic()
    files = labelled(place / "models" / f"probe-{seed}")
    test = sorted((place / "images/test").resolve().rglob("*.png"))
    torch.manual_seed(seed)
    with learner(files).no_bar() as tried, tried.no_logging():
        tried.fit(1)  # what a first epoch costs more is not counted
        once = time.monotonic()
        tried.fit(1)
        an_epoch = time.monotonic() - once
    predicting = an_epoch * len(test) / len(files) / 3  # a forward pass of the three that training makes
    epochs = max(1, int((60 * minutes - (time.monotonic() - begun) - predicting) / an_epoch))
    torch.manual_seed(seed)
    with learner(files).no_bar() as made, made.no_logging():
        made.fine_tune(epochs)
        found, _ = made.get_preds(dl=made.dls.test_dl(test, bs=BATCH))
    print(f"{place.name} {seed}: {epochs} epochs, {(time.monotonic() - begun) / 60:.2f} minutes", flush=True)
    names = [made.dls.vocab[number] for number in found.argmax(1).tolist()]
    return {
        str(path.relative_to((place / "images/test").resolve())): name for path, name in zip(test, names, strict=True)
    }


def main() -> None:
    """Adds the columns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place", type=Path)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--seeds", default="0-4")
    given = parser.parse_args()
    torch.set_num_threads(1)
    path = given.place.with_suffix(".csv")
    for seed in parse_seeds(given.seeds):
        table = pd.read_csv(path)
        numbers = dict(zip(table["image"].str.split("/").str[0], table["label"], strict=True))
        found = answers(given.place, seed, given.minutes)
        table[f"fastai {seed}"] = table["image"].map(found).map(numbers)
        right = 100 * (table[f"fastai {seed}"] == table["label"]).mean()
        print(f"{given.place.name} {seed}: {right:.1f} % right", flush=True)
        table.to_csv(path, index=False)


if __name__ == "__main__":
    main()
