"""Evaluation: every test example once, in evaluation mode, with the weights of the last step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from repro.data import source_of
from repro.evaluate.evaluate import evaluate, told
from repro.evaluate.predict import Predictor, score
from repro.fit.outcome import weights_that_count
from repro.train.checkpoint import Result
from repro.train.loop import Trainer, finetune
from tests.tiny import CPU, assert_same, left_by, settings


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Result]:
    """A trained run on digits with averages, finetuning and three snapshots, and what it leaves behind."""
    changes = {"optim__average_decay": 0.9, "finetune__steps": 3, "finetune__learning_rate": 0.05}
    trainer = Trainer(settings("digits", {"name": "mpl"}, model__dropout=0.0, **changes), 0, CPU)
    trainer.run(Path(tmp_path_factory.mktemp("run")) / "state")
    return trainer, left_by(trainer, finetune(trainer))


def test_predictions_are_the_networks_own(finished: tuple[Trainer, Result]) -> None:
    """Networks and averages of the last step predict, in evaluation mode, for every test image in order."""
    trainer, result = finished
    run, test = evaluate("run", result), source_of(trainer.config.data).held_out_set(0)
    for role, learner in trainer.state.learners.items():
        model, own = learner.model, {k: v.clone() for k, v in learner.model.state_dict().items()}
        for name, weights in ((role, own), (f"{role}_average", learner.average)):
            model.load_state_dict(weights)
            expected = model.eval()(test.examples.float() / 16).argmax(dim=-1).numpy()
            np.testing.assert_array_equal(run.predictions(name)[0], expected)
            assert [float((expected == test.labels.numpy()).mean())] == run.seeds[f"accuracy.{name}"].tolist()
        model.load_state_dict(own)
        model.train()
    assert not np.array_equal(run.predictions("student_average"), run.predictions("teacher_average"))


def test_late_accuracies_are_those_of_the_late_weights(finished: tuple[Trainer, Result]) -> None:
    """Of the weights that were kept late, here two snapshots' own, on all test images."""
    weights = [snapshot["networks"]["student"] for snapshot in finished[1].snapshots[:2]]
    late = [{"step": step, "networks": {"counted": one}} for step, one in enumerate(weights, 7)]

    arrays = evaluate("run", replace(finished[1], late=late)).arrays

    assert [7, 8] == arrays["curve.late_step"].tolist()
    assert arrays["curve.accuracy.student"][0, :2].tolist() == arrays["curve.late_accuracy"][0].tolist()
    assert arrays["curve.late_accuracy"][0, 0] != arrays["curve.late_accuracy"][0, 1]


def test_last_weights_count_even_if_others_were_better(finished: tuple[Trainer, Result]) -> None:
    """In whatever order of quality the snapshots come, the last one gives the predictions."""
    forward = finished[1]
    backward = replace(forward, snapshots=forward.snapshots[::-1])
    predictor, test = Predictor(finished[0].config, 0), source_of(finished[0].config.data).held_out_set(0)
    found = []
    for result in (forward, backward):
        expected = predictor.classes(result.snapshots[-1]["networks"]["student"], test.examples)
        run = evaluate("run", result)
        np.testing.assert_array_equal(run.predictions("student"), expected)
        found.append(run.seeds["accuracy.student"].item())

    assert found[0] != found[1]


@pytest.mark.parametrize("data", ["two_moons", "digits"])
def test_examples_in_pieces_are_the_whole(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions made piece by piece, with a smaller last piece, are those made at once."""
    config = settings(data, {"name": "supervised"})
    test, learner = source_of(config.data).held_out_set(0), Trainer(config, 0, CPU).state.learners["teacher"]
    predictor = Predictor(config, 0)
    whole = predictor.probabilities(learner.model.state_dict(), test.examples)
    monkeypatch.setattr(predictor, "_chunk", lambda _: 64)
    pieces = predictor.probabilities(learner.model.state_dict(), test.examples)

    assert len(test.labels) % 64
    # Not bit for bit: kernels may sum otherwise for other batch sizes.
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-5)


def test_rows_of_the_confusion_matrix_are_the_true_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where everything is taken for a 3, column 3 has all images, and the 3s alone are right."""
    config = settings("digits", {"name": "supervised"})
    labels = source_of(config.data).held_out_set(0).labels
    monkeypatch.setattr(Predictor, "probabilities", lambda *_: torch.eye(10)[[3] * len(labels)])

    found = score(config, 0, {})

    counts = torch.bincount(labels, minlength=10).tolist()
    assert [[count if k == 3 else 0 for k in range(10)] for count in counts] == found.confusion
    assert counts[3] == found.right


def test_accuracy_is_computed_in_float32_whatever_training_was() -> None:
    """The same weights give the same probabilities, bit for bit, in a run of bfloat16."""
    plain, half = (settings("digits", {"name": "supervised"}, engine__precision=p) for p in ("float32", "bfloat16"))
    test, learner = source_of(plain.data).held_out_set(0), Trainer(plain, 0, CPU).state.learners["teacher"]
    found = [Predictor(config, 0).probabilities(learner.model.state_dict(), test.examples) for config in (plain, half)]

    assert torch.equal(*found)


def test_a_record_says_how_a_seed_was_trained() -> None:
    """Its share of the seconds of four that trained as one, where it went on, what it was warned of."""
    sessions = [{"from_step": 0}, {"from_step": 40}, {"from_step": 70}]
    environment = {"seconds": 10.0, "torch": "2", "sessions": sessions, "warnings": ["one class", "guessing"]}

    said = {"seconds": 2.5, "torch": "2", "resumed_at": "40 70", "warnings": "one class; guessing"}
    assert said == told(environment, 4)
    assert {"seconds": 10.0} == told({"seconds": 10.0, "sessions": sessions[:1]}, 1)


@pytest.mark.parametrize("tuned", [False, True])
def test_a_fit_keeps_the_weights_that_count(tuned: bool, finished: tuple[Trainer, Result]) -> None:
    """The finetuned ones where there are any, else the averaged ones."""
    trainer, result = finished
    result = result if tuned else replace(result, finetuned={})

    expected = result.finetuned if tuned else trainer.state.learners["student"].average
    assert_same(dict(expected), weights_that_count(result))
