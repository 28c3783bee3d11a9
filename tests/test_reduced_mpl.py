"""Reduced Meta Pseudo Labels: two phases, a perceptron that starts as the large teacher, and MPL's own feedback."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from repro.config.methods import Baseline, Feedback, Mpl, PseudoLabel, ReducedMpl
from repro.config.read import ConfigError
from repro.config.schema import Optim, Optimiser
from repro.config.shorten import shortened
from repro.data import source_of
from repro.methods import reduced_mpl
from repro.methods.reduced_mpl import REDUCED
from repro.methods.state import Batch, State
from repro.models.reduced_teacher import ReducedTeacher
from repro.seeding import Draws, Streams
from repro.train.calls import Stopped
from repro.train.finite import copy_of, restore
from repro.train.health import learns
from repro.train.loop import Trainer
from tests.tiny import CLASSES, CPU, LABELLED, METHODS, TinyNet, all_weights, assert_same, settings, tiny_batch, trained
from tests.tiny import weights as of

REDUCED_MPL = METHODS["reduced_mpl"]
SWITCH = REDUCED_MPL["teacher_steps"]
EXACT = {"rtol": 0.0, "atol": 1e-13}  # float64 rounding
UNLABELLED = 4


def tiny(config: Mpl, rate: float = 0.3) -> tuple[State, Batch, ReducedMpl]:
    """A float64 state one step before its first of the second phase, and a batch of all examples."""
    whole = ReducedMpl(teacher_steps=1, hidden=7, mpl=config)
    optim = Optim(student=Optimiser(learning_rate=rate), teacher=Optimiser(learning_rate=1.0))
    state = reduced_mpl.init(lambda role: TinyNet(1 if role == "teacher" else 2), whole, optim, 100, ())
    state.memory = {key: value.double() for key, value in state.memory.items()}
    state.step = 1
    plain = tiny_batch(UNLABELLED)
    batch = replace(
        plain,
        draws=Draws(Streams(0), 1),
        labelled_index=torch.arange(LABELLED),
        unlabelled_index=torch.arange(UNLABELLED),
        everything=lambda: ([plain.labelled[:2], plain.labelled[2:]], [plain.weak]),
    )
    return state, batch, whole


def perceptron(state: State) -> ReducedTeacher:
    """The small teacher."""
    model = state.aides[REDUCED].model
    assert isinstance(model, ReducedTeacher)
    return model


def test_the_perceptron_starts_as_the_large_teacher() -> None:
    """Its distributions are the stored ones to rounding, its labels the same; in every example."""
    state, batch, _ = tiny(Mpl())
    teacher = state.learners["teacher"].model
    reduced_mpl._exchange(state, batch)

    for name, x in (("labelled", batch.labelled), ("unlabelled", batch.weak)):
        stored = state.stored[name]
        torch.testing.assert_close(stored, teacher(x).softmax(-1).detach(), **EXACT)
        corrected = perceptron(state)(stored.log()).softmax(-1)
        torch.testing.assert_close(corrected, stored, **EXACT)
        assert torch.equal(stored.argmax(-1), corrected.argmax(-1))
    assert float(perceptron(state).inward.detach().abs().max()) > 0.5


def test_a_distribution_with_zeros_stays_finite() -> None:
    """A prediction of exactly 0 is the smallest number instead, so that no logarithm is infinite."""
    state, batch, whole = tiny(Mpl())
    reduced_mpl.step(state, batch, whole)
    state.stored["unlabelled"] = torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0]]

    metrics = reduced_mpl.step(state, batch, whole)

    assert all(bool(torch.isfinite(value).all()) for value in metrics.values())
    assert all(bool(torch.isfinite(p).all()) for p in state.aides[REDUCED].parameters)


@pytest.mark.parametrize("data", ["two_moons", "digits"])
def test_predictions_are_stored_where_the_batches_look_for_them(data: str) -> None:
    """A batch's stored predictions are T's, in evaluation mode, of the examples themselves, whatever their order."""
    trainer = trained(settings(data, REDUCED_MPL), steps=SWITCH + 3)
    model, batch = trainer.state.learners["teacher"].model.eval(), trainer.batch(SWITCH + 2)
    assert batch.labelled_index is not None
    assert batch.unlabelled_index is not None
    assert torch.equal(batch.labels, trainer.data.labels[batch.labelled_index])
    assert torch.equal(batch.hidden_labels, trainer.data.hidden_labels[batch.unlabelled_index])
    for name, examples, index in (
        ("labelled", trainer.data.labelled, batch.labelled_index),
        ("unlabelled", trainer.data.unlabelled, batch.unlabelled_index),
    ):
        expected = model(source_of(trainer.config.data).to_input(examples[index])).softmax(-1).detach()
        actual = reduced_mpl._stored(trainer.state, name, index).exp()
        # Other examples beside it make a kernel sum in another order: float32 rounding.
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("data", ["two_moons", "digits"])
def test_the_large_teacher_is_udas_network_of_its_own_length(data: str) -> None:
    """Bit for bit, schedule included, where its losses are those of UDA; then it stays as it is."""
    cosine = {"optim__teacher__schedule": "cosine"}
    uda = trained(settings(data, {"name": "uda"} | REDUCED_MPL["mpl"]["uda"], budget__steps=SWITCH, **cosine))
    until = trained(settings(data, REDUCED_MPL, **cosine), steps=SWITCH)
    later = trained(settings(data, REDUCED_MPL, **cosine))

    expected = {key: value for key, value in all_weights(uda).items() if key.startswith("teacher.")}
    for trainer in (until, later):
        assert_same(expected, {k: v for k, v in all_weights(trainer).items() if k.startswith("teacher.")})


def test_the_large_teacher_is_not_used_in_the_second_phase() -> None:
    """After the exchange no pass goes through it, and no gradient reaches it."""
    trainer, seen = trained(settings("digits", REDUCED_MPL), steps=SWITCH), []
    teacher = trainer.state.learners["teacher"].model
    teacher.register_forward_hook(lambda *_: seen.append(trainer.state.step))
    for step in range(SWITCH, 10):
        trainer.method.step(trainer.state, trainer.batch(step, probe=True), trainer.config.method)

    assert {SWITCH} == set(seen)
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("feedback", [Feedback.finite_difference, Feedback.dot_product, Feedback.cosine, Feedback.none])
@pytest.mark.parametrize("moved", [False, True])
def test_one_step_by_plain_functions(feedback: Feedback, moved: bool) -> None:
    """The student learns the labels of T', which goes down h CE(y^, T'(x_u)) + CE(y, T'(x_l)); first and later."""
    config = Mpl(feedback=feedback, pseudo_label=PseudoLabel.argmax, baseline=Baseline.none)
    state, batch, whole = tiny(config)
    reduced_mpl.step(state, batch, whole)  # the exchange, and a first step
    if not moved:
        with torch.no_grad():
            perceptron(state).outward.zero_()
            perceptron(state).outward_bias.zero_()
    model, student = perceptron(state), state.learners["student"]
    labelled, unlabelled = (state.stored[name].log() for name in ("labelled", "unlabelled"))
    labels = model(unlabelled).argmax(-1)
    gradient = student.gradients(functional.cross_entropy(student.model(batch.strong), labels))
    old = functional.cross_entropy(student.model(batch.labelled), batch.labels).detach()
    reduced_before, student_before = [p.detach().clone() for p in model.parameters()], of(state, "student")

    metrics = reduced_mpl.step(state, batch, whole)

    for b, a, g in zip(student_before, of(state, "student"), gradient, strict=True):
        torch.testing.assert_close(b - a, 0.3 * g, **EXACT)
    new = functional.cross_entropy(student.model(batch.labelled), batch.labels)
    downhill = student.gradients(new)
    product = sum(float((a * b).sum()) for a, b in zip(downhill, gradient, strict=True))
    lengths = [sum(float((g * g).sum()) for g in side) ** 0.5 for side in (downhill, gradient)]
    h = {
        Feedback.finite_difference: float(old - new.detach()),
        Feedback.dot_product: 0.3 * product,
        Feedback.cosine: product / (lengths[0] * lengths[1]),
        Feedback.none: 0.0,
    }[feedback]
    if feedback is not Feedback.none:
        assert h == pytest.approx(float(metrics["feedback"]), abs=1e-12)
    twin = ReducedTeacher(CLASSES, 7, ()).double()
    twin.load_state_dict(dict(zip([name for name, _ in twin.named_parameters()], reduced_before, strict=True)))
    supervised = functional.cross_entropy(twin(labelled), batch.labels)
    loss = supervised + h * functional.cross_entropy(twin(unlabelled), labels)
    expected = torch.autograd.grad(loss, list(twin.parameters()))
    for b, a, e in zip(reduced_before, model.parameters(), expected, strict=True):
        torch.testing.assert_close(b - a.detach(), e, rtol=0, atol=1e-12)


def test_student_and_perceptron_have_schedules_of_their_own() -> None:
    """Their first step is the first of their warm-up, not one of the whole run's: a tenth of the full rate here."""
    moved = {}
    for warmup in (0, 10):
        state, batch, whole = tiny(Mpl(pseudo_label=PseudoLabel.argmax, feedback=Feedback.none))
        learners = (state.learners["student"], state.aides[REDUCED])
        for learner in learners:
            learner.config = replace(learner.config, warmup_steps=warmup)
        before = [[p.detach().clone() for p in learner.parameters] for learner in learners]
        reduced_mpl.step(state, batch, whole)
        moved[warmup] = [
            b - p.detach()
            for learner, start in zip(learners, before, strict=True)
            for b, p in zip(start[-1:], learner.parameters[-1:], strict=True)
        ]

    for full, first in zip(moved[0], moved[10], strict=True):
        torch.testing.assert_close(first, full / 10, **EXACT)
        assert float(full.abs().max()) > 1e-3


def test_without_feedback_and_labels_the_perceptron_stays_the_large_teacher() -> None:
    """Nothing else moves it, so that the student is one of a fixed teacher's sampled labels."""
    config = {**REDUCED_MPL, "mpl": {"feedback": "none", "teacher_supervised": False, "uda": {"weight": 1.0}}}
    trainer = trained(settings("digits", config), steps=12)

    assert 0.0 == float(perceptron(trainer.state).outward.detach().abs().max())


def went_on(folder: Path, at: int) -> dict[str, Tensor]:
    """All weights after a run that was stopped at a step and went on in another process."""
    config = settings("digits", REDUCED_MPL)
    first, second = (Trainer(config, 0, CPU) for _ in range(2))
    with pytest.raises(Stopped):
        first.run(folder, stop=lambda: first.state.step == at)
    second.run(folder, say=lambda _: None)
    return all_weights(second)


@pytest.mark.parametrize("at", [SWITCH - 1, SWITCH, SWITCH + 1, SWITCH + 7])
def test_a_run_goes_on_across_the_exchange_bit_for_bit(at: int, tmp_path: Path) -> None:
    """Stopped before it, at it or after it: stored predictions, perceptron and its momentum are those of one go."""
    whole = Trainer(settings("digits", REDUCED_MPL), 0, CPU)
    whole.run(tmp_path / "whole")

    assert_same(all_weights(whole), went_on(tmp_path / "parts", at))


def test_going_back_before_the_exchange_forgets_what_was_stored() -> None:
    """A state of the first phase has no predictions of a later teacher, and goes on as it did."""
    trainer = trained(settings("digits", REDUCED_MPL), steps=SWITCH - 1)
    early = copy_of(trainer.state, trainer.window)
    ends = []
    for _ in range(2):
        restore(early, trainer.state, trainer.window)
        assert {} == trainer.state.stored
        for step in range(SWITCH - 1, SWITCH + 4):
            trainer.method.step(trainer.state, trainer.batch(step), trainer.config.method)
        ends.append(all_weights(trainer))

    assert_same(*ends)


@pytest.mark.parametrize(
    ("missing", "message"),
    [("everything", "does not give all training examples"), ("unlabelled_index", "does not say which examples")],
)
def test_a_batch_that_lacks_what_it_needs_is_refused(missing: str, message: str) -> None:
    """One sentence, and nothing is trained on wrong predictions."""
    state, batch, whole = tiny(Mpl())

    with pytest.raises(ValueError, match=message):
        reduced_mpl.step(state, replace(batch, **{missing: None}), whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method__teacher_steps": 20}, "method.teacher_steps = 20: leaves the student none of budget.steps = 20"),
        ({"method__mpl__feedback": "exact"}, "method.mpl.feedback = exact: weighs all classes, so wants method.mpl.p"),
        ({"method__mpl__name": "uda"}, "method.mpl.name = uda: must be mpl"),
        ({"method__mpl__uda__name": "mpl"}, "method.mpl.uda.name = mpl: must be uda"),
        ({"optim__student__warmup_steps": 16}, r"leaves none of budget.steps - method.teacher_steps = 16"),
    ],
)
def test_impossible_settings_are_refused_by_their_whole_key(changes: dict[str, Any], message: str) -> None:
    """What MPL refuses is refused one level below too."""
    method = {**REDUCED_MPL, "mpl": {**REDUCED_MPL["mpl"], "uda": {**REDUCED_MPL["mpl"]["uda"]}}}
    with pytest.raises(ConfigError, match=message):
        settings("two_moons", method, **changes)


def test_shortening_keeps_both_phases() -> None:
    """Half the steps have half of the large teacher's, and half of its ramp; it learns from its own first step on."""
    method = {**REDUCED_MPL, "teacher_steps": 8, "mpl": {"uda": {"weight": 1.0, "ramp_steps": 6}}}
    config = settings("digits", method, budget__shortened_to=10)
    short = shortened(config)

    assert isinstance(short.method, ReducedMpl)
    assert (10, 4, 3) == (short.budget.steps, short.method.teacher_steps, short.method.mpl.uda.ramp_steps)
    assert not learns(config, "student", 9)
    assert learns(config, "student", 11)
    assert learns(config, "teacher", 9)
