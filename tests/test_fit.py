"""Three commands, as a newcomer types them: a folder in, a model out, predictions of new images."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from repro.__main__ import parsers
from repro.config import as_mapping, lookup
from repro.data import source_of
from repro.evaluate.predict import Predictor
from repro.fit.command import _options, planned
from repro.fit.saved import Classifier
from tests.entry_points import call, started
from tests.folders import pictures, write_folder, write_image

FAST = ["--size", "16", "--steps", "12", "--method", "supervised", "--model", "wide_resnet_10", "model.width=1",
        "engine.threads=1", "budget.labelled_batch=4", "optim.teacher.warmup_steps=1"]  # fmt: skip


@pytest.fixture(autouse=True)
def _images(workplace: Path) -> None:
    """Of two classes that are told by their brightness."""
    for part, count in (("train", 6), ("test", 3)):
        write_folder(workplace / "my images" / part, {"bright one": count, "dark": count}, "png")
        for path in (workplace / "my images" / part).rglob("*.png"):
            level = (200 if path.parent.name == "bright one" else 20) + len(path.name) + int(path.stem[1:])
            Image.new("RGB", (30, 24), (level, level, level)).save(path)


def said(workplace: Path, *arguments: str, status: int = 0) -> str:
    """All that `python -m repro <arguments>` prints."""
    done = call(workplace, *arguments)
    assert status == done.returncode, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_from_a_folder_to_predictions(workplace: Path) -> None:
    """A fit leaves one self-contained folder; predict writes a line for each image, in order, damaged ones empty."""
    printed = said(workplace, "fit", "my images", *FAST, "--out", "models/mine")
    model = Classifier.load(workplace / "models/mine")

    assert "training images in train, test images in test" in printed
    assert f"{100 * model.facts['right'] / 6:.1f} % of 6 test images right, 95 % interval" in printed
    there = {path.name for path in (workplace / "models/mine").iterdir()} - {"mistakes.png"}
    assert {"model.safetensors", "config.json", "settings.yaml", "options.yaml", "log.csv", "README.md", "curves.png",
            "confusion.png"} == there  # fmt: skip
    assert ["bright one", "dark"] == model.class_names
    assert "| bright one | 3 |" in (workplace / "models/mine/README.md").read_text()

    new = workplace / "new"
    shutil.copytree(workplace / "my images/test", new)
    (new / "damaged.jpg").write_bytes(b"no image")
    write_image(new / "small.png", 4, 4)
    write_image(new / "ä, b.png", 40, 30)
    printed = said(workplace, "predict", "models/mine", "new", "my images/test/dark/d0.png", "--csv", "out/p.csv",
                "--probabilities")  # fmt: skip
    with (workplace / "out/p.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    names = sorted(str(path.relative_to(workplace)) for path in new.rglob("*") if path.is_file())
    assert [*names, "my images/test/dark/d0.png"] == [row["path"] for row in rows]
    assert {"new/damaged.jpg", "new/small.png"} == {row["path"] for row in rows if not row["class"]}
    assert "2 could not be read" in printed
    assert "new/damaged.jpg: no image of a format" in printed
    for row in rows:
        if row["class"]:
            shares = [float(row[name]) for name in model.class_names]
            assert abs(sum(shares) - 1) < 1e-3
            assert row["class"] == model.class_names[int(np.argmax(shares))]
            assert max(shares) == float(row["confidence"])

    assert "finished already" in said(workplace, "fit", "my images", *FAST, "--out", "models/mine")
    other = said(workplace, "fit", "my images", *FAST, "--out", "models/mine", "--labels", "4", status=2)
    assert "was begun with other options: labels = 0 there, 4 here" in other
    Image.new("RGB", (30, 24), "red").save(workplace / "my images/train/dark/d1.png")
    assert "are not those it was begun with" in said(
        workplace, "fit", "my images", *FAST, "--out", "models/mine", status=2
    )


@pytest.mark.slow
@pytest.mark.parametrize("deep", [False, True])
def test_prediction_is_what_evaluation_saw(deep: bool, workplace: Path) -> None:
    """Test images given as new ones get the classes that the test accuracy was counted from; also those of 12 bits."""
    for path in (workplace / "my images").rglob("*.png" if deep else "none"):
        Image.fromarray(np.asarray(Image.open(path))[..., 0].astype(np.uint16) * 16).save(path)
    said(workplace, "fit", "my images", *FAST, "--out", "mine")
    model = Classifier.load("mine")
    config = model.settings
    test = source_of(config.data).held_out_set(0)
    names = [str(test.examples.path(number)) for number in range(len(test.labels))]  # type: ignore[union-attr]
    found = model.predict(names).probabilities

    expected = Predictor(config, 0).probabilities(model.weights, test.examples)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-6)
    assert (model.levels is not None) == deep
    assert model.facts["right"] == int((expected.argmax(dim=-1) == test.labels).sum())


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_goes_on(workplace: Path) -> None:
    """Interrupted while it trains, it exits with 130 and keeps its state; then it ends as an uninterrupted one."""
    slow = ["fit", "my images", *FAST[:3], "60", *FAST[4:], "budget.checkpoint_minutes=0"]
    said(workplace, *slow, "--out", "whole")
    with started(workplace, "-m", "repro", *slow, "--out", "broken") as process:
        until = time.monotonic() + 120
        while not list(workplace.glob("broken/state/seed-0/checkpoint-*")):
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) in {0, 130}
    said(workplace, *slow, "--out", "broken")

    whole, broken = (Classifier.load(workplace / name) for name in ("whole", "broken"))
    assert whole.weights.keys() == broken.weights.keys()
    assert all(torch.equal(whole.weights[key], broken.weights[key]) for key in whole.weights)
    assert not (workplace / "broken/state").exists()


@pytest.mark.parametrize(("arguments", "message"), [
    (["fit", "nowhere"], "nowhere is no folder; name the folder with your images"),
    (["fit", "my images", "--labelled", "none.csv"], r"data.labelled = none.csv"),
    (["fit", "my images", "--labels", "50"], "data.labels = 50: there are only 12 labelled images"),
    (["fit", "my images", "--steps", "5", "--out", "/proc/nowhere/m"], "--out = /proc/nowhere/m: cannot be written"),
    (["predict", "my images", "my images", "--csv", "my images"], "--csv = my images: is a folder; name the file"),
    (["predict", "my images", "my images", "--csv", "pipe"], "--csv = pipe: is a device or a pipe; name the file"),
    (["predict", "my images", "my images", "--csv", "link.csv"], "--csv = link.csv: is an image; name the file"),
    (["predict", "my images", "my images", "--csv", "x" * 300], "cannot be written"),
    (["fit", "my images", "--model", "alexnet"], "alexnet"),
    (["fit", "my images", "--out", "my images"], "holds something else than a model"),
    (["predict", "nowhere", "my images"], "nowhere holds no trained model, which fit would have left there"),
])  # fmt: skip
def test_mistakes_are_one_sentence(arguments: list[str], message: str, workplace: Path) -> None:
    """What is wrong and what to do; nothing is left behind, and no device, pipe or image is replaced."""
    os.mkfifo(workplace / "pipe")
    (workplace / "link.csv").symlink_to("my images/test/dark/d0.png")
    printed = said(workplace, *arguments, status=2)

    assert message in printed
    assert printed.strip().splitlines()[-1].startswith("error: ")
    assert not (workplace / "models").exists()


# Options


@pytest.mark.parametrize(("words", "message"), [
    ("--minutes inf", "--minutes = inf: must be more than 0, up to 1,000,000"),
    ("--minutes nan", "--minutes = nan: must be"),
    ("--minutes 0", "--minutes = 0.0: must be"),
    ("--steps -3", "--steps = -3: must be more than -1"),
    ("--seeds 5", "--seeds = 5: are those of a comparison"),
    ("--seed -1", "--seed = -1: must be more than -1, up to 999,999,999"),
    ("--seed 99999999999999999999", "--seed = 99999999999999999999: must be"),
    ("--labels -3", "--labels = -3: must be more than -1"),
    ("--minutes 5 --steps 10", "--minutes = 5.0 and --steps = 10 contradict each other"),
    ("budget.steps=10", "budget.steps = 10: is said by an option of fit; leave it out, and name --steps"),
    ("++budget.shortened_to=10", "budget.shortened_to = 10: is said by an option of fit; leave it out, and name --st"),
    ("--size 48 data.image_size=48", "data.image_size = 48: is said by an option of fit; leave it out, and"),
    ("data.labels=2", "name --labels"),
    ("data.labelled=m.csv", "name --labelled"),
    ("data.test='u'", "data.test = u: is said by an option of fit; leave it out, and name --test"),
    ("method=supervised", "name --method"),
    ("method.name=uda", "name --method"),
    ("+model.name=wide_resnet", "model.name = wide_resnet: is said by an option of fit"),
    ("data.root=/nowhere", "name the folder of images"),
    ("planned_seeds=5", "name --seed"),
    ("--method probe", "--method = probe: wants the name of a pretrained network: --backbone NAME"),
    ("--weights w.pth", "--weights = w.pth: wants the name of a pretrained network"),
    ("--backbone auto --model resnet50", "--backbone = auto and --model = resnet50 contradict each other"),
    ("data_hash=0", "data_hash = 0: is filled by fit"),
    ("finetune.steps=5 finetune.steps=6", "finetune.steps is set to 6 and to something else"),
])  # fmt: skip
def test_options_that_cannot_be_are_one_sentence(words: str, message: str) -> None:
    """Before anything is looked at. What an option says is not said by a setting too."""
    given = parsers()[1]["fit"].parse_intermixed_args(["images", *words.split()])

    with pytest.raises(ValueError, match=re.escape(message)):
        _options(given)


@pytest.mark.parametrize(("words", "held"), [
    ("optim.student.warmup_steps=3 optim.teacher.warmup_steps=2", {}),
    ("budget.labelled_batch=2 budget.log_every=3 budget.workers=2 engine.readers=3", {}),
    ("method.ramp_steps=7 method.weight=3.0", {}),
    ("--labels 2 budget.labelled_batch=2 finetune.batch=2", {"data.labels": 2}),
    ("--method supervised method.label_smoothing=0.3", {"method.name": "supervised"}),
    ("--size 24 --labels 2", {"data.image_size": 24, "data.labels": 2}),
    ("--model resnet50_narrow --size 16", {"model.width": 16, "data.image_size": 16}),
    ("data.train=val data.classes=2", {}),
])  # fmt: skip
def test_settings_hold(words: str, held: dict[str, Any], workplace: Path) -> None:
    """What a person sets is what the run has, though fit fits warm-up, batches and log to images and steps."""
    pictures(workplace / "images", "train/a train/b val/a val/b test/a test/b")
    given = parsers()[1]["fit"].parse_intermixed_args(["images", "--steps", "12", "engine.threads=1", *words.split()])
    _options(given)
    found = as_mapping(planned(given, Path("out"))[0])
    asked = {key: value for key, _, value in (word.partition("=") for word in words.split()) if value} | held

    assert lookup(found, "budget.steps") == 12
    for key, value in asked.items():
        assert str(lookup(found, key)) == str(value), key


@pytest.mark.parametrize(("words", "message"), [
    ("budget.labelled_batch=50", "budget.labelled_batch = 50: there are only data.labels = 4"),
    ("optim.student.warmup_steps=50", r"optim.student.wait_steps \+ optim.student.warmup_steps = 50: leaves none"),
    ("data.classes=3", "data.classes = 3: .* has 2"),
    ("data.train=nowhere", "data.train = nowhere: .* is no folder"),
    ("--test nowhere", "data.test = .*nowhere: .* is no folder"),
    ("data=cifar10", "data.image_size is not a setting"),
])  # fmt: skip
def test_settings_that_cannot_hold_are_one_sentence(words: str, message: str, workplace: Path) -> None:
    """What the images or the steps do not allow is refused, not set aside."""
    pictures(workplace / "images", "train/a train/b test/a test/b")
    given = parsers()[1]["fit"].parse_intermixed_args(["images", "--steps", "12", "engine.threads=1", *words.split()])
    _options(given)

    with pytest.raises(ValueError, match=message):
        planned(given, Path("out"))
