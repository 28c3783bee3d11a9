"""What holds for every source: recorded hashes, the door before test data, and one description in one place."""

from __future__ import annotations

import ast
import math
from pathlib import Path
from typing import get_args

import pytest
import torch

from repro.data import Cifar10Data, Data, DigitsData, FolderData, Placement, SvhnData, TwoMoonsData, source_of
from repro.data.sets import HeldOutSet, TrainingSet, fingerprint
from repro.data.toys import load_digits

MOONS = TwoMoonsData()
SPREAD = TwoMoonsData(placement=Placement.spread)
DIGITS = DigitsData()
PACKAGE = Path(__file__).parents[1] / "repro"


def trained_on(config: Data, seed: int | list[int] = 0) -> TrainingSet:
    """The training data."""
    return source_of(config).training_set(seed)


def held_out_of(config: Data, seed: int | list[int] = 0) -> HeldOutSet:
    """The test data."""
    return source_of(config).held_out_set(seed)


@pytest.mark.parametrize(("config", "training", "held_out"), [
    (MOONS, "05bc9a3daf7bb901a52eeb183c965377b82abb788890d0677e6f73f065b6be9f",
     "011eb68ca0661ebde52e9c99fb47818721b1a83b8389d0fb90b34f0f8eafd760"),
    (SPREAD, "5c469d1188d240ae78d1bc4923a0355db8c741dfd2214e8f38adcc235f601044",
     "011eb68ca0661ebde52e9c99fb47818721b1a83b8389d0fb90b34f0f8eafd760"),
    (DIGITS, "5726a3a7a0d84f6e7501e56153f76b5cb34fd2792f695f93fa52d9cdad113fda",
     "892156b5b76993fc51961c20017768e63a5455c526d556f9b6159080381b0fc4"),
], ids=["moons", "spread", "digits"])  # fmt: skip
def test_data_are_the_recorded_ones(config: Data, training: str, held_out: str) -> None:
    """The hashes over data and split of two seeds are those recorded here."""
    assert training == source_of(config).training_hash([0, 1])
    assert held_out == source_of(config).held_out_hash([0, 1])


@pytest.mark.parametrize("config", [MOONS, SPREAD, DIGITS])
def test_labels_are_balanced(config: Data) -> None:
    """Every class has the same number of labelled examples."""
    source = source_of(config)

    assert [config.labels // source.classes] * source.classes == source.training_set(3).labels.bincount().tolist()


def test_digits_are_disjoint_and_complete() -> None:
    """Labelled, unlabelled and held-out images are all 1,797, each once, under every seed; seeds label others."""
    images, labels = load_digits()
    held_out = held_out_of(DIGITS)
    for seed in (0, 1):
        data = trained_on(DIGITS, seed)
        index = torch.cat([data.labelled_indices, data.unlabelled_indices])
        rest = torch.ones(len(labels), dtype=torch.bool).index_fill(0, index, False)

        assert 1200 == len(index) == len(index.unique())
        assert torch.equal(images[index], torch.cat([data.labelled, data.unlabelled]))
        assert torch.equal(labels[index], torch.cat([data.labels, data.hidden_labels]))
        # every held-out image is one of the others: the same multiset of (image, label)
        expected = sorted(fingerprint(i, k) for i, k in zip(images[rest], labels[rest], strict=True))
        assert expected == sorted(fingerprint(i, k) for i, k in zip(held_out.examples, held_out.labels, strict=True))
    assert set(trained_on(DIGITS, 0).labelled_indices.tolist()) != set(trained_on(DIGITS, 1).labelled_indices.tolist())
    assert torch.equal(held_out.labels, held_out_of(DigitsData(labels=100), 1).labels)


def test_other_digits_of_scikit_learn_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the installed package that is to be replaced."""
    images, labels = load_digits()
    monkeypatch.setattr("repro.data.toys._from_scikit_learn", lambda: (images, labels.roll(1)))

    with pytest.raises(ValueError, match=r"from scikit-learn are not .*; install the version of requirements.lock"):
        trained_on(DIGITS)


def test_moons_lie_on_their_arcs() -> None:
    """Without noise class 0 is the upper unit half circle about 0, class 1 the lower one about (1, 0.5)."""
    data = trained_on(TwoMoonsData(noise=0.0))
    offset = data.unlabelled - torch.tensor([[0.0, 0.0], [1.0, 0.5]])[data.hidden_labels]

    # 4 decimals are kept
    torch.testing.assert_close(offset.norm(dim=-1), torch.ones(1994), rtol=0, atol=1e-4)
    assert ((offset[:, 1] >= 0) == (data.hidden_labels == 0)).logical_or(offset[:, 1].abs() < 1e-4).all()


def test_spread_labels_show_the_shape() -> None:
    """Spread labels lie at the middles of equal parts of each arc; the unlabelled points stay what they were."""
    clean = trained_on(TwoMoonsData(noise=0.0, placement=Placement.spread))
    angle = torch.tensor([1, 3, 5]) * math.pi / 6

    expected = torch.stack([angle.cos(), angle.sin()], dim=-1)
    torch.testing.assert_close(clean.labelled[0::2], expected, rtol=0, atol=1e-4)  # 4 decimals are kept
    torch.testing.assert_close(clean.labelled[1::2], torch.tensor([1.0, 0.5]) - expected, rtol=0, atol=1e-4)
    assert torch.equal(trained_on(MOONS).unlabelled, trained_on(SPREAD).unlabelled)
    assert not torch.equal(trained_on(SPREAD, 0).labelled, trained_on(SPREAD, 1).labelled)


def test_stacked_moons_are_each_seeds_moons() -> None:
    """Row r of stacked data is the data of seed r, training and test."""
    for config in (MOONS, SPREAD):
        stacked, held = trained_on(config, [4, 7]), held_out_of(config, [4, 7])
        for row, seed in enumerate([4, 7]):
            for key, value in vars(trained_on(config, seed)).items():
                assert torch.equal(value, getattr(stacked, key)[row])
            assert torch.equal(held_out_of(config, seed).examples, held.examples[row])


def test_moons_test_points_are_others() -> None:
    """No test point is a training point."""
    data, held = trained_on(MOONS), held_out_of(MOONS)
    seen = {tuple(p) for p in torch.cat([data.labelled, data.unlabelled]).tolist()}

    assert 1000 == len(held.labels)
    # by chance, two of 2 million pairs may round to the same 4 decimals: some 2e6 / (3e4 * 2e4 cells)
    assert len([p for p in held.examples.tolist() if tuple(p) in seen]) <= 1


# The door before test data

DOORS = {"held_out_set", "held_out_labels", "held_out_evidence"}


def test_only_evaluation_opens_test_data() -> None:
    """Only `repro/data`, evaluation, and `fit`, which judges a model, ask a source for what it holds out."""
    opening = set()
    for path in PACKAGE.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        used |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        opening |= {path.relative_to(PACKAGE).parts[0]} if used & DOORS else set()

    assert {"data", "evaluate", "fit"} == opening


def test_no_source_trains_on_what_it_holds_out() -> None:
    """Within a source only what is called after the door goes through it."""
    trees = [ast.parse(path.read_text()) for path in (PACKAGE / "data").glob("*.py")]
    kinds = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    methods = [method for kind in kinds for method in kind.body if isinstance(method, ast.FunctionDef)]
    asked = {method.name: {n.attr for n in ast.walk(method) if isinstance(n, ast.Attribute)} for method in methods}
    through = {name for name, used in asked.items() if used & DOORS}

    assert len(methods) > 80
    assert {name for name in through if not name.startswith("held_out")} == set()


def test_nobody_asks_which_data_set_it_has() -> None:
    """Outside the data room and its settings, no name and no class of a data set decides anything."""
    kinds = {kind.__name__ for kind in get_args(get_args(Data)[0])}
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "data":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                asked = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
                assert set() == asked & kinds, path
            if isinstance(node, ast.Compare):
                assert "data.name" not in ast.unparse(node), path


def test_noise_moves_a_moons_points_in_both_directions_alike() -> None:
    """Of its deviation in each coordinate, and the two independent; the points themselves stay where they are."""
    quiet, noisy = (trained_on(TwoMoonsData(points=2000, noise=noise)).unlabelled for noise in (0.0001, 0.1))
    moved = (noisy - quiet).double()

    assert moved.std(dim=0).tolist() == pytest.approx([0.1, 0.1], rel=0.08)  # five standard errors of 2,000 points
    assert abs(float(torch.corrcoef(moved.T)[0, 1])) < 0.11


@pytest.mark.parametrize(("config", "mean", "deviation"), [
    (Cifar10Data(), (0.4914, 0.482158, 0.4465309), (0.247032, 0.243485, 0.26159)),  # released code
    (SvhnData(), (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    (FolderData(), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # ImageNet's, released code
])  # fmt: skip
def test_each_has_its_own_channels(config: Data, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
    """Of a white pixel (1 - mean) / deviation is left, of a black one -mean / deviation."""
    pixels = torch.tensor([255, 0], dtype=torch.uint8).expand(1, 3, 1, 2).contiguous()

    found = source_of(config).to_input(pixels)[0, :, 0].T.tolist()

    white, black = ([(level - m) / d for m, d in zip(mean, deviation, strict=True)] for level in (1, 0))
    assert found == [pytest.approx(white, rel=1e-5), pytest.approx(black, rel=1e-5)]
