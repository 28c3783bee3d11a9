"""Data: balance, disjointness, fixed hashes, and the door between training and test data."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path

import pytest
import torch
from repro.data.held_out import held_out_hash, held_out_set
from repro.data.training import describe_split, prepare, training_hash, training_set

from repro.data import Data, DigitsData, Placement, TwoMoonsData, digits
from repro.data.sets import class_counts, fingerprint

MOONS = TwoMoonsData()
SPREAD = TwoMoonsData(placement=Placement.spread)
TRAINING_HASHES = {
    "moons": "05bc9a3daf7bb901a52eeb183c965377b82abb788890d0677e6f73f065b6be9f",
    "spread": "5c469d1188d240ae78d1bc4923a0355db8c741dfd2214e8f38adcc235f601044",
    "digits": "5726a3a7a0d84f6e7501e56153f76b5cb34fd2792f695f93fa52d9cdad113fda",
}
HELD_OUT_HASHES = {
    "moons": "011eb68ca0661ebde52e9c99fb47818721b1a83b8389d0fb90b34f0f8eafd760",
    "digits": "892156b5b76993fc51961c20017768e63a5455c526d556f9b6159080381b0fc4",
}


@pytest.mark.parametrize("config", [MOONS, SPREAD, DigitsData()])
def test_labels_are_balanced(config: Data) -> None:
    """Every class has the same number of labelled examples; the moons' points are halved as well."""
    data = training_set(config, 3)
    classes = 10 if isinstance(config, DigitsData) else 2

    assert [config.labels // classes] * classes == class_counts(data.labels, classes)
    if isinstance(config, TwoMoonsData):
        assert [997, 997] == class_counts(data.hidden_labels, 2)


def test_digits_are_disjoint_and_complete() -> None:
    """Labelled, unlabelled and held-out images are all 1,797, each once, under every seed."""
    images, labels = digits.load()
    held_out = held_out_set(DigitsData(), 0)
    for seed in (0, 1):
        data = training_set(DigitsData(), seed)
        index = torch.cat([data.labelled_indices, data.unlabelled_indices])
        rest = torch.ones(len(labels), dtype=torch.bool).index_fill(0, index, False)

        assert 1200 == len(index) == len(index.unique())
        assert torch.equal(images[index], torch.cat([data.labelled, data.unlabelled]))
        assert torch.equal(labels[index], torch.cat([data.labels, data.hidden_labels]))
        # every held-out image is one of the others: the same multiset of (image, label)
        expected = sorted(fingerprint(i, k) for i, k in zip(images[rest], labels[rest], strict=True))
        assert expected == sorted(fingerprint(i, k) for i, k in zip(held_out.examples, held_out.labels, strict=True))


def test_digits_split_depends_on_the_seed_alone() -> None:
    """Seeds label other images; the test images stay."""
    one, other = (training_set(DigitsData(), seed) for seed in (0, 1))

    assert set(one.labelled_indices.tolist()) != set(other.labelled_indices.tolist())
    assert torch.equal(held_out_set(DigitsData(), 0).examples, held_out_set(DigitsData(), 1).examples)


def test_more_labels_keep_the_test_images() -> None:
    """The number of labels does not move the test set."""
    assert torch.equal(held_out_set(DigitsData(labels=20), 0).labels, held_out_set(DigitsData(labels=100), 0).labels)


def test_moons_lie_on_their_arcs() -> None:
    """Without noise class 0 is the upper unit half circle about 0, class 1 the lower one about (1, 0.5)."""
    data = training_set(TwoMoonsData(noise=0.0), 0)
    centre = torch.tensor([[0.0, 0.0], [1.0, 0.5]])[data.hidden_labels]
    offset = data.unlabelled - centre

    # 4 decimals are kept
    torch.testing.assert_close(offset.norm(dim=-1), torch.ones(1994), rtol=0, atol=1e-4)
    assert ((offset[:, 1] >= 0) == (data.hidden_labels == 0)).logical_or(offset[:, 1].abs() < 1e-4).all()


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_noise_has_its_level(noise: float) -> None:
    """The points' offsets from the noise-free ones have the standard deviation asked for, in both coordinates."""
    clean, noisy = (training_set(TwoMoonsData(points=8000, noise=n), 0).unlabelled for n in (0.0, noise))

    for spread in (noisy - clean).std(dim=0):
        assert noise == pytest.approx(float(spread), rel=0.032)  # 4 standard errors of 8,000 draws


def test_spread_labels_show_the_shape() -> None:
    """Spread labels lie at the middles of equal parts of each arc; the unlabelled points stay what they were."""
    clean = training_set(TwoMoonsData(noise=0.0, placement=Placement.spread), 0)
    angle = torch.tensor([1, 3, 5]) * math.pi / 6

    upper, lower = clean.labelled[0::2], clean.labelled[1::2]
    expected = torch.stack([angle.cos(), angle.sin()], dim=-1)
    torch.testing.assert_close(upper, expected, rtol=0, atol=1e-4)  # 4 decimals are kept
    torch.testing.assert_close(lower, torch.tensor([1.0, 0.5]) - expected, rtol=0, atol=1e-4)
    assert torch.equal(training_set(MOONS, 0).unlabelled, training_set(SPREAD, 0).unlabelled)
    assert not torch.equal(training_set(SPREAD, 0).labelled, training_set(SPREAD, 1).labelled)


def test_stacked_moons_are_each_seeds_moons() -> None:
    """Row r of stacked data is the data of seed r, training and test."""
    for config in (MOONS, SPREAD):
        stacked, held = training_set(config, [4, 7]), held_out_set(config, [4, 7])
        for row, seed in enumerate([4, 7]):
            for key, value in vars(training_set(config, seed)).items():
                assert torch.equal(value, getattr(stacked, key)[row])
            assert torch.equal(held_out_set(config, seed).examples, held.examples[row])


def test_moons_test_points_are_others() -> None:
    """No test point is a training point."""
    data, held = training_set(MOONS, 0), held_out_set(MOONS, 0)
    seen = {tuple(p) for p in torch.cat([data.labelled, data.unlabelled]).tolist()}

    assert 1000 == len(held.labels)
    # by chance, two of 2 million pairs may round to the same 4 decimals: some 2e6 / (3e4 * 2e4 cells)
    assert len([p for p in held.examples.tolist() if tuple(p) in seen]) <= 1


@pytest.mark.parametrize(("name", "config"), [("moons", MOONS), ("spread", SPREAD), ("digits", DigitsData())])
def test_training_data_are_the_recorded_ones(name: str, config: Data) -> None:
    """The hash over data and split of two seeds is the one recorded here."""
    assert TRAINING_HASHES[name] == training_hash(config, [0, 1])


@pytest.mark.parametrize(("name", "config"), [("moons", MOONS), ("digits", DigitsData())])
def test_held_out_data_are_the_recorded_ones(name: str, config: Data) -> None:
    """The hash over test data of two seeds is the one recorded here."""
    assert HELD_OUT_HASHES[name] == held_out_hash(config, [0, 1])


def test_fingerprint_sees_values_types_and_shapes() -> None:
    """Another value, type or shape of the same bytes has another fingerprint."""
    tensors = [
        torch.tensor([1, 2]),
        torch.tensor([1, 3]),
        torch.tensor([[1, 2]]),
        torch.tensor([1, 2], dtype=torch.int32),
    ]

    assert 4 == len({fingerprint(tensor) for tensor in tensors})


def test_digits_cannot_be_stacked() -> None:
    """Stacked digits are refused with the remedy."""
    with pytest.raises(ValueError, match=r"set budget.stack to 1"):
        training_set(DigitsData(), [0, 1])


def test_prepared_digits_are_checked(tmp_path: Path) -> None:
    """The prepared file is read back; a changed one is refused by its path."""
    prepare(DigitsData(), tmp_path)
    images, labels = digits.load(tmp_path / "digits.npz")

    assert digits.SHA256 == fingerprint(images, labels)
    import numpy as np

    np.savez(tmp_path / "digits.npz", images=images.numpy(), labels=labels.roll(1).numpy())
    with pytest.raises(ValueError, match=r"not the published ones"):
        digits.load(tmp_path / "digits.npz")


def test_split_is_described() -> None:
    """The split file names indices, class counts and hash of every seed."""
    described = json.loads(describe_split(DigitsData(labels=20), [0, 3]))

    assert ["0", "3"] == list(described["seeds"])
    assert [2] * 10 == described["seeds"]["3"]["labelled_class_counts"]
    assert (
        training_set(DigitsData(labels=20), 3).labelled_indices.tolist() == described["seeds"]["3"]["labelled_indices"]
    )


def imported(path: Path) -> set[str]:
    """Modules that a file imports, with the names it takes from them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


MODULES = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in Path("repro").rglob("*.py")}


def closure(start: str) -> set[str]:
    """Modules of this project that a package's files reach through imports."""
    reached, waiting = set(), {name for name in MODULES if name == start or name.startswith(f"{start}.")}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= {m for m in imported(MODULES[name]) if m in MODULES and m not in reached}
    return reached


def test_only_evaluation_opens_test_data() -> None:
    """Outside repro/data, only repro/evaluate takes anything that opens test data."""
    doors = {"repro.data.held_out"} | {f"repro.data.{m}.held_out_set" for m in ("digits", "two_moons", "held_out")}
    users = {name for name, path in MODULES.items() if doors & imported(path) and not name.startswith("repro.data")}

    assert users
    assert {"evaluate"} == {name.split(".")[1] for name in users}
    for name, path in MODULES.items():
        used = {n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)}
        assert name == "repro.data.held_out" or "held_out_set" not in used


@pytest.mark.parametrize("package", ["repro.train", "repro.methods", "repro.cli.train", "repro.cli.prepare"])
def test_training_cannot_reach_test_data(package: str) -> None:
    """What training imports, directly or not, holds neither the door to test data nor evaluation."""
    reached = closure(package)

    assert "repro.data.training" in reached or package == "repro.methods"
    assert set() == {m for m in reached if m == "repro.data.held_out" or m.startswith("repro.evaluate")}
