"""Evaluation of images in files: read once for all networks, one chunk ahead; likeliest classes; unknown labels."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from repro.config import Config
from repro.data import images as image_files
from repro.data import source_of
from repro.data.folder import Folder
from repro.evaluate import predict
from repro.evaluate.evaluate import _part, evaluate
from repro.evaluate.predict import Predictor
from repro.models.networks import build_model
from repro.results import in_top5
from repro.seeding import Streams
from repro.train.checkpoint import Result
from tests.folders import CLASSES, TEST_IMAGES, config_of, images, trained_on

NETWORKS = {"teacher", "teacher_average", "student", "student_average"}


@pytest.fixture
def result(workplace: Path) -> Result:
    """A run of MPL on a folder of 12 classes."""
    return trained_on(config_of(images(workplace / "images"), "mpl"), workplace)


def random_networks(config: Config, classes: int, count: int) -> dict[str, dict[str, Tensor]]:
    """Weights of networks as they start, each from another seed."""
    return {f"net{k}": build_model(config.model, classes, Streams(k), "student").state_dict() for k in range(count)}


def counted_reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file is read from now on."""
    reads: Counter[str] = Counter()
    lock, read = threading.Lock(), image_files.read_image

    def counting(path: Path, *rest: object) -> np.ndarray:
        with lock:
            reads[str(path)] += 1
        return read(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(image_files, "read_image", counting)
    return reads


def test_all_networks_see_an_image_that_is_read_once(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many networks there are, each file is decoded once, and each network gives what it gives alone."""
    config = config_of(images(workplace / "images"))
    test, networks = source_of(config.data).held_out_set(0), random_networks(config, CLASSES, 6)
    alone = {name: Predictor(config, 0).classes(weights, test.examples) for name, weights in networks.items()}
    predictor, reads = Predictor(config, 0), counted_reads(monkeypatch)
    monkeypatch.setattr(predictor, "_chunk", lambda _: 5)

    together = predictor.ranked(networks, test.examples, 1)

    assert CLASSES * TEST_IMAGES == len(reads) == len(test.labels)
    assert {1} == set(reads.values())
    assert len({classes.tobytes() for classes in alone.values()}) > 1
    for name, classes in alone.items():
        np.testing.assert_array_equal(classes, together[name][..., 0])


def test_reading_ahead_changes_no_bit(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that are read while others are computed give the probabilities of the images in memory, in order."""
    config = config_of(images(workplace / "images"))
    files, weights = source_of(config.data).held_out_set(0).examples, random_networks(config, CLASSES, 1)["net0"]
    predictor = Predictor(config, 0)
    monkeypatch.setattr(predictor, "_chunk", lambda _: 7)
    held = predictor.held(files, 2**30)

    assert (CLASSES * TEST_IMAGES, 3, 16, 16) == held.shape == files.shape
    assert predictor.held(files, 2**10) is files
    assert torch.equal(predictor.probabilities(weights, files), predictor.probabilities(weights, held))
    model = build_model(config.model, CLASSES, Streams(0), "student").eval()
    model.load_state_dict(weights)
    with torch.no_grad():
        whole = torch.softmax(model(source_of(config.data).to_input(held)), dim=-1)
    torch.testing.assert_close(predictor.probabilities(weights, files), whole, rtol=0, atol=1e-5)


def test_a_chunk_is_read_while_the_one_before_is_computed(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second chunk is asked for before the network has seen the first, and no third one is."""
    config = config_of(images(workplace / "images"))
    files, predictor = source_of(config.data).held_out_set(0).examples, Predictor(config, 0)
    asked = threading.Semaphore(0)
    read, begun = Folder.as_evaluated, []

    def asking(*args: object) -> Tensor:
        begun.append(1)
        asked.release()
        return read(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(Folder, "as_evaluated", asking)
    monkeypatch.setattr(predictor, "_chunk", lambda _: 6)
    chunks = predictor._inputs(files)

    next(chunks)
    assert asked.acquire(timeout=60)
    assert asked.acquire(timeout=60)
    assert 2 == len(begun)
    chunks.close()


def test_top5_goes_with_predictions_and_labels(result: Result, workplace: Path) -> None:
    """Every final network has its five likeliest classes in order; their accuracy is that of labels among them."""
    run, test = evaluate("run", result), source_of(config_of(workplace / "images").data).held_out_set(0)

    assert NETWORKS == set(run.networks) == {name[5:] for name in run.arrays if name.startswith("top5.")}
    for network in NETWORKS:
        likeliest = run.arrays[f"top5.{network}"]
        assert (1, CLASSES * TEST_IMAGES, 5) == likeliest.shape
        assert np.uint8 == likeliest.dtype == run.predictions(network).dtype
        np.testing.assert_array_equal(run.predictions(network), likeliest[..., 0])
        hits = [label in row for row, label in zip(likeliest[0].tolist(), test.labels.tolist(), strict=True)]
        assert [sum(hits) / len(hits)] == run.seeds[f"top5.{network}"].tolist()
        assert run.seeds[f"top5.{network}"].item() >= run.seeds[f"accuracy.{network}"].item()


def test_likeliest_classes_are_in_order(workplace: Path) -> None:
    """Each is at least as likely as the next, none is left out that is likelier, and ties go to the lower class."""
    config = config_of(images(workplace / "images"))
    test, weights = source_of(config.data).held_out_set(0), random_networks(config, CLASSES, 1)["net0"]
    predictor = Predictor(config, 0)
    found, shares = (
        predictor.ranked({"": weights}, test.examples, 5)[""][0].astype(int),
        predictor.probabilities(weights, test.examples).numpy(),
    )
    equal = predict._likeliest(torch.tensor([[0.1, 0.3, 0.3, 0.1, 0.1, 0.1], [0.0, 0, 1, 0, 0, 0]]), 5)

    for row, share in zip(found, shares, strict=True):
        assert np.sort(share)[::-1][:5].tolist() == share[row].tolist()
    assert [[1, 2, 0, 3, 4], [2, 0, 1, 3, 4]] == equal.tolist()


def test_more_than_256_classes_keep_their_numbers(workplace: Path) -> None:
    """Class 299 is 299, not 43, in predictions and among the five likeliest."""
    config = config_of(images(workplace / "images"))
    many = replace(config, data=replace(config.data, classes=300))
    test, predictor = source_of(config.data).held_out_set(0), Predictor(many, 0)
    weights = random_networks(many, 300, 1)["net0"]
    weights = {key: value + 50.0 * (torch.arange(300) == 299) if value.shape == (300,) else value
               for key, value in weights.items()}  # fmt: skip

    found = predictor.ranked({"net": weights}, test.examples, 5)["net"]

    assert np.uint16 == found.dtype
    assert {299} == set(found[..., 0].ravel().tolist()) == set(predictor.classes(weights, test.examples).ravel())
    assert in_top5(found, np.full(found.shape[:2], 299)).all()


def test_wrong_pseudo_labels_are_not_counted_where_classes_are_unknown(workplace: Path) -> None:
    """One image of no class suffices: the curves and the log say nothing of it, rather than something wrong."""
    found = [
        trained_on(config_of(images(workplace / name, without_class=count)), workplace / name)
        for name, count in (("known", 0), ("unknown", 1))
    ]
    known, unknown = (evaluate("run", result) for result in found)
    keys = {"curve.pseudo_label_wrong", "curve.wrong_stays"}

    assert keys <= set(known.arrays)
    assert np.isfinite(known.arrays["curve.pseudo_label_wrong"]).all()
    assert set(known.arrays) - keys == set(unknown.arrays)
    assert "pseudo_label_wrong" in known.metrics
    assert "pseudo_label_wrong" not in unknown.metrics


def test_curves_of_some_examples_are_of_all_classes(workplace: Path) -> None:
    """Files are listed class by class, so the first ones would be of few classes: as many are taken from each."""
    config = config_of(images(workplace / "images"))
    test, train = source_of(config.data).held_out_set(0), source_of(config.data).training_set(0)

    part, labels = _part(test.examples, test.labels[None].numpy(), 0, CLASSES)
    whole, all_labels = _part(train.unlabelled, train.hidden_labels[None].numpy(), 0, 0)

    assert list(range(CLASSES)) == labels[0].tolist()
    assert [f"c{label:03d}" for label in range(CLASSES)] == [part.path(i).parent.name for i in range(len(part))]
    assert len(whole) == len(train.unlabelled) == all_labels.shape[1]


def test_curves_of_some_examples_are_not_of_the_labelled_ones() -> None:
    """Where labelled images are among the unlabelled ones they come first: the first 8 here would all be labelled."""
    rows = torch.arange(24).expand(3, 24)

    for lead, examples in ((0, rows[0]), (1, rows)):
        part, labels = _part(examples[..., None], rows[: max(1, 3 * lead)].numpy(), lead, 8)
        assert part[..., 0].reshape(-1, 8).tolist() == labels.tolist() == [list(range(0, 24, 3))] * max(1, 3 * lead)


def test_curves_read_their_images_once(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all snapshots and checkpoints, and once more for the final networks."""
    root = images(workplace / "images")
    result = trained_on(config_of(root, snapshots=4), workplace)
    reads = counted_reads(monkeypatch)

    evaluate("run", result)

    assert {"train": {1}, "test": {2}} == {
        part: {count for path, count in reads.items() if f"images/{part}/" in path} for part in ("train", "test")
    }
