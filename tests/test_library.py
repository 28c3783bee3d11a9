"""MPL as a library: the harness's own step on the harness's networks, and on any module what is computed by hand."""

from __future__ import annotations

import copy
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from repro import MetaPseudoLabels
from repro.train.loop import Trainer
from tests.tiny import CPU, assert_same, settings

ROOT = Path(__file__).parents[1]
K, RATE = 10, 0.05
EXACT = {"rtol": 1e-9, "atol": 1e-10}  # float64 rounding of two orders of summation, over some thousand terms


def plain(seed: int, dropout: float = 0.0) -> nn.Sequential:
    """A plain network in float64 for images [N, 3, 8, 8]."""
    torch.manual_seed(seed)
    convolution = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.Tanh()
    return nn.Sequential(*convolution, nn.Dropout(dropout), nn.Flatten(), nn.Linear(6 * 16, K)).double()


def resnet18(seed: int) -> nn.Module:
    """Torchvision's own, in float64."""
    torch.manual_seed(seed)
    return torchvision.models.resnet18(num_classes=K).double()  # type: ignore[no-any-return]


NETWORKS = [plain, pytest.param(resnet18, marks=pytest.mark.slow)]


def examples(network: Any = plain, step: int = 0) -> list[Any]:
    """x, y, weak, strong: 6 labelled and 8 unlabelled images."""
    side, generator = 8 if network is plain else 32, torch.Generator().manual_seed(step)
    x, weak, strong = (torch.randn(n, 3, side, side, generator=generator, dtype=torch.float64) for n in (6, 8, 8))
    return [x, torch.arange(6) % 3, weak, strong]


def ready(**choices: Any) -> MetaPseudoLabels:
    """With dropout, momentum and an average."""
    return MetaPseudoLabels(**{"teacher": plain(1, 0.3), "student": plain(2, 0.3), "steps": 9, "learning_rate": RATE,
                               "momentum": 0.9, "average_decay": 0.9} | choices)  # fmt: skip


# Of the harness: method, and other settings. Of the library: the same as arguments.
SAME: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "cosine": ({"feedback": "cosine", "baseline": "moving_average", "uda": {"weight": 2.0, "threshold": 0.2}},
               {"optim__student__clip_norm": 1.0, "optim__teacher__momentum": 0.0},
               {"feedback": "cosine", "baseline": "moving_average", "uda_weight": 2.0, "uda_threshold": 0.2,
                "student_clip_norm": 1.0, "teacher_momentum": 0.0}),
    "exact": ({"feedback": "exact", "pseudo_label": "soft"}, {"optim__student__wait_steps": 1},
              {"feedback": "exact", "pseudo_label": "soft", "student_wait_steps": 1}),
    "bfloat16": ({"feedback": "finite_difference", "feedback_batch_norm": "released"},
                 {"engine__precision": "bfloat16"},
                 {"feedback": "finite_difference", "feedback_batch_norm": "released", "precision": "bfloat16"}),
    "shuffled": ({"feedback": "shuffled", "teacher_labelled_view": "strong", "teacher_mixup": 1.0,
                  "teacher_pseudo_label": {"weight": 1.0}}, {"optim__average_start": "released"},
                 {"feedback": "shuffled", "teacher_labelled_view": "strong", "teacher_mixup": 1.0,
                  "teacher_pseudo_label_weight": 1.0, "average_start": "released"}),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_the_step_is_the_harnesss(case: str) -> None:
    """On the harness's network all weights, momenta, averages and metrics of three steps are the same bits."""
    method, others, choices = SAME[case]
    common = {"weight_decay": 0.01, "momentum": 0.9, "schedule": "cosine", "warmup_steps": 2, "learning_rate": 0.1}
    both = {f"optim__{role}__{key}": value for role in ("student", "teacher") for key, value in common.items()}
    trainer = Trainer(settings("digits", {"name": "mpl"} | method, optim__average_decay=0.9, **both | others), 3, CPU)
    own = {role: copy.deepcopy(learner.model) for role, learner in trainer.state.learners.items()}
    for network in own.values():
        vars(network).pop("forward", None)  # the harness's own region of bfloat16
    library = MetaPseudoLabels(**own, steps=20, seed=3, average_decay=0.9, **common | choices)

    for step in range(3):
        batch = trainer.batch(step, probe=step == 1)
        actual = library.step(batch.labelled, batch.labels, batch.weak, batch.strong, strong_x=batch.strong_labelled,
                              true_labels=batch.hidden_labels, probe=batch.probe)  # fmt: skip
        assert_same(trainer.method.step(trainer.state, batch, trainer.config.method), actual)
    left = {key.replace("module.", ""): value for key, value in library.state_dict().items()}
    assert_same(trainer.state.state_dict() | {"step": torch.tensor(3)}, left)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_is_the_one_by_hand(network: Callable[[int], nn.Module]) -> None:
    """Two steps with UDA, momentum and weight decay of matrices and kernels, by plain PyTorch and its own SGD."""
    nets = network(1), network(2)
    teacher, student = copy.deepcopy(nets)
    library = MetaPseudoLabels(
        *nets, steps=9, pseudo_label="argmax", uda_weight=1.5, uda_temperature=0.5, learning_rate=RATE, momentum=0.9,
        weight_decay=0.1,
    )  # fmt: skip
    sgd = []
    for model in (teacher, student):
        kernels, others = ([p for p in model.parameters() if (p.ndim > 1) == many] for many in (True, False))
        groups: list[dict[str, Any]] = [{"params": kernels, "weight_decay": 0.1}, {"params": others}]
        sgd.append(torch.optim.SGD(groups, RATE, momentum=0.9, nesterov=True))

    for step in range(2):
        x, y, weak, strong = examples(network, step)
        on_x, on_weak, on_strong = teacher(torch.cat([x, weak, strong])).split([6, 8, 8])
        labels = on_strong.argmax(-1)
        student.zero_grad()
        functional.cross_entropy(student(strong), labels).backward()
        sgd[1].step()
        there = copy.deepcopy(student)  # whose running statistics may move
        loss = functional.cross_entropy(there(x), y)
        after = torch.autograd.grad(loss, list(there.parameters()))
        h = RATE * sum((a * p.grad).sum() for a, p in zip(after, student.parameters(), strict=True))
        uda = -(torch.softmax(on_weak / 0.5, -1).detach() * torch.log_softmax(on_strong, -1)).sum(-1).mean()
        loss = functional.cross_entropy(on_x, y) + 1.5 * uda + h * functional.cross_entropy(on_strong, labels)
        teacher.zero_grad()
        loss.backward()
        sgd[0].step()

        torch.testing.assert_close(library.step(x, y, weak, strong)["feedback"], h, **EXACT)
    for expected, actual in ((teacher, library.teacher), (student, library.student)):
        for name, value in actual.state_dict().items():  # weights, running statistics, their number of batches
            torch.testing.assert_close(value, expected.state_dict()[name], **EXACT)


@pytest.mark.parametrize("network", NETWORKS)
def test_feedback_is_the_slope_of_the_labelled_loss(network: Callable[[int], nn.Module]) -> None:
    """As difference L(theta) - L(theta'); as product eta times the slope at theta' along the step's gradient g."""
    (x, y, weak, strong), found = examples(network), {}
    for form in ("finite_difference", "cosine", "dot_product"):
        old, student = network(2), network(2)
        library = MetaPseudoLabels(network(1), student, steps=9, learning_rate=RATE, feedback=form)
        found[form] = library.step(x, y, weak, strong)["feedback"]
    g = {name: (p - student.get_parameter(name)).detach() / RATE for name, p in old.named_parameters()}

    def loss(by: float | Tensor) -> Tensor:
        """Of the labelled images at theta' + by g, in training mode."""
        at = {name: student.get_parameter(name).detach() + by * direction for name, direction in g.items()}
        return functional.cross_entropy(functional_call(copy.deepcopy(student).train(), at, (x,)), y)

    slope = torch.func.jvp(loss, (torch.zeros((), dtype=torch.float64),), (torch.ones((), dtype=torch.float64),))[1]
    gradient = torch.autograd.grad(functional.cross_entropy(student.train()(x), y), list(student.parameters()))
    lengths = [torch.cat([t.flatten() for t in vector]).norm() for vector in (gradient, g.values())]

    torch.testing.assert_close(found["dot_product"], RATE * slope, **EXACT)
    torch.testing.assert_close(found["cosine"], slope / (lengths[0] * lengths[1]), **EXACT)
    torch.testing.assert_close(slope, (loss(1e-8) - loss(-1e-8)) / 2e-8, rtol=1e-5, atol=1e-6)  # of a curved loss
    torch.testing.assert_close(found["finite_difference"], loss(RATE) - loss(0.0), **EXACT)


def test_dropout_is_a_function_of_seed_and_step() -> None:
    """One mask for a step: a student that stays has no feedback, to the bit; h by example has the batch's mean."""
    waits = ready(feedback="finite_difference", wait_steps=5)
    first, second = waits.step(*examples()), waits.step(*examples())
    example, other = ready(feedback_scope="example"), ready(seed=1)
    h = ready().step(*examples())["feedback"]
    torch.manual_seed(7)  # the generator's state is nothing to it

    assert 0.0 == float(first["feedback"]) == float(second["feedback"])
    assert not torch.equal(first["teacher_labelled_loss"], second["teacher_labelled_loss"])
    assert abs(float(h)) > 1e-3
    torch.testing.assert_close(example.step(*examples())["feedback"], h, **EXACT)
    assert abs(float(other.step(*examples())["feedback"] - h)) > 1e-3


def test_attention_has_feedback_by_example() -> None:
    """PyTorch's fused forms of it have no forward-mode derivative; the plain one gives the batch's mean too."""
    found = []
    for scope in ("batch", "example"):
        nets = [plain(seed) for seed in (1, 2)]
        for net in nets:  # rows of pixels as a sequence
            net.insert(0, nn.Sequential(nn.Flatten(1, 2), nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)))
            net.insert(1, nn.Unflatten(1, (3, 8)))
        library = MetaPseudoLabels(*[net.double() for net in nets], steps=9, feedback_scope=scope)
        found.append(library.step(*examples())["feedback"])

    assert abs(float(found[0])) > 1e-3
    torch.testing.assert_close(found[1], found[0], **EXACT)


@pytest.mark.parametrize("choices", [{"feedback": "shuffled"}, {"feedback": "exact", "pseudo_label": "soft"}])
def test_resume_gives_the_same_bits(choices: dict[str, str], tmp_path: Path) -> None:
    """Two steps, saved, loaded into other networks, and two more; PyTorch's own random numbers stay untouched."""
    whole, first, second = ready(**choices), ready(**choices), ready(**choices, teacher=plain(8, 0.3))
    state = torch.get_rng_state()
    for step in range(4):
        whole.step(*examples(step=step))
        if step == 2:
            torch.save(first.state_dict(), tmp_path / "state.pt")
            second.load_state_dict(torch.load(tmp_path / "state.pt"))
        (first if step < 2 else second).step(*examples(step=step))

    assert_same(whole.state_dict(), second.state_dict())
    assert [False, False] == [whole.student.training, whole.teacher.training]  # as they are evaluated
    assert torch.equal(state, torch.get_rng_state())
    assert 4 == int(whole.student_average.get_buffer("1.num_batches_tracked"))
    assert not torch.equal(whole.student_average.get_parameter("0.weight"), whole.student.get_parameter("0.weight"))


def test_autocast_around_is_the_argument() -> None:
    """A region around all steps gives the bits of `precision`; no cast of a weight outlives the student's step."""
    own = [{"teacher": plain(1).float(), "student": plain(2).float(), "feedback": "finite_difference"} for _ in "ab"]
    inside, argument = ready(**own[0]), ready(**own[1], precision="bfloat16")
    x, y, weak, strong = examples()
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            found = inside.step(x.float(), y, weak.float(), strong.float())
        assert_same(argument.step(x.float(), y, weak.float(), strong.float()), found)
    assert abs(float(found["feedback"])) > 1e-3
    with torch.autocast("cpu", torch.float16), pytest.raises(ValueError, match="in which small gradients are 0"):
        inside.step(x.float(), y, weak.float(), strong.float())


def test_frozen_parameters_stay() -> None:
    """A pretrained layer without `requires_grad` keeps its bits, also where h is of each class; the others move."""
    student = plain(2)
    student[0].requires_grad_(requires_grad=False)
    ready(student=student, feedback="exact", pseudo_label="soft", weight_decay=0.1).step(*examples())

    same = [torch.equal(new, old) for new, old in zip(student.parameters(), plain(2).parameters(), strict=True)]
    assert [True] * 2 + [False] * 4 == same


def test_all_tensors_move_to_a_device() -> None:
    """Networks, momenta, averages and what is remembered of feedback, which has the networks' type too."""
    library = ready(baseline="moving_average").to("meta")

    assert {torch.float64} == {value.dtype for value in library.state_dict().values() if value.is_floating_point()}
    assert {"meta"} == {value.device.type for key, value in library.state_dict().items() if key != "step"}
    assert all(p.is_meta for learner in library._state.learners.values() for p in learner.parameters)


def test_the_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Three steps of it; three lines with accuracies."""
    monkeypatch.setattr(sys, "argv", ["own_loop.py", "3"])
    runpy.run_path(str(ROOT / "examples" / "own_loop.py"), run_name="__main__")

    assert 3 == capsys.readouterr().out.count(" % of 597 test images")


# What it refuses: one sentence that names argument and remedy, and nothing has changed


class Detached(nn.Module):
    """Cuts the gradient off: such a network would be decayed alone, without a word."""

    def forward(self, x: Tensor) -> Tensor:
        """The same numbers."""
        return x.detach()


LAST = nn.Linear(6 * 16, K).double()
LIKE_THE_NETWORKS = "needs a tensor of examples on cpu, as the networks"


@pytest.mark.parametrize(("choices", "says"), [
    ({"feedbak": "cosine"}, "feedbak is not a setting; did you mean 'feedback'?"),
    ({"learning_rate": 5000.0}, r"^learning_rate = 5000.0: must lie in \[1e-12, 1,000\]"),
    ({"uda_temperature": 0.0}, "^uda_temperature = 0.0: must lie in"),
    ({"feedback": "exact"}, "^feedback = exact: .* wants pseudo_label = soft"),
    ({"student_warmup_steps": 9}, r"^student_wait_steps \+ student_warmup_steps = 9: leaves none of steps = 9"),
    ({"feedback_scope": "example", "precision": "bfloat16"}, "^precision = bfloat16: .* use float32"),
    ({"teacher": nn.ReLU()}, "teacher has no parameter that requires a gradient; give it one"),
    ({"teacher": nn.DataParallel(plain(0))}, "teacher is a DataParallel; give the plain module"),
    ({"teacher": plain(0).bfloat16()}, "teacher has parameters of .*bfloat16.*; put all on one device"),
    ({"teacher": nn.LazyLinear(K)}, "teacher has lazy layers; pass a batch through it first"),
    ({"teacher": nn.Sequential(LAST), "student": nn.Sequential(LAST)},
     "student.0.weight shares its memory with teacher.0.weight.* copy.deepcopy"),
])  # fmt: skip
def test_arguments(choices: dict[str, Any], says: str) -> None:
    """Settings under the names of the arguments, and modules that no step can train."""
    with pytest.raises(ValueError, match=says):
        MetaPseudoLabels(**{"teacher": plain(1), "student": plain(2), "steps": 9} | choices)


@pytest.mark.parametrize(("place", "change", "says"), [
    (1, lambda y: y + 8, "y has labels 8 to 10, the networks classes 0 to 9; renumber"),
    (1, lambda y: y.double(), r"y is torch.float64 \[6\]; needs a whole number for each of x: int64 \[6\]"),
    (1, lambda y: y[:5], r"y is torch.int64 \[5\]; needs"),
    (3, lambda strong: strong.byte(), r"strong is torch.uint8, x torch.float\d+; give both the same type"),
    (3, lambda strong: strong[:5], r"strong is \[5, 3, 8, 8\] and weak \[8, 3, 8, 8\]; two views"),
    (0, lambda x: x[..., :7], r"weak is \[8, 3, 8, 8\], x \[6, 3, 8, 7\]; give examples of the same"),
    (0, lambda x: x[:0], f"x is .0, 3, 8, 8. on cpu; {LIKE_THE_NETWORKS}"),
    (2, lambda weak: weak[:0], f"weak is .0, 3, 8, 8. on cpu; {LIKE_THE_NETWORKS}"),
    (0, lambda x: x.numpy(), f"x is a ndarray; {LIKE_THE_NETWORKS}"),
    (0, lambda x: x.to("meta"), f"x is .6, 3, 8, 8. on meta; {LIKE_THE_NETWORKS}"),
])  # fmt: skip
def test_a_batch(place: int, change: Callable[[Tensor], Any], says: str) -> None:
    """One of x, y, weak and strong does not fit."""
    library, batch = ready(), examples()
    before = copy.deepcopy(library.state_dict())
    batch[place] = change(batch[place])
    with pytest.raises(ValueError, match=says):
        library.step(*batch)
    assert_same(before, library.state_dict())


@pytest.mark.parametrize(("student", "says"), [
    (nn.Sequential(plain(2), nn.Linear(K, 7).double()), "teacher gives logits for 10 classes, student for 7; make"),
    (nn.Conv2d(3, K, 1).double(), r"student gives \[6, 10, 8, 8\] for x .*; needs logits \[6, K\]"),
    (nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True), plain(2)).double(),
     "student: a training pass changes the buffer 0.running_mean"),
    (nn.Sequential(plain(2), Detached()), r"student's logits, torch.float64, have no gradient; leave out detach"),
])  # fmt: skip
def test_networks(student: nn.Module, says: str) -> None:
    """Found by a look before the first step."""
    before = copy.deepcopy(student.state_dict())
    with pytest.raises(ValueError, match=says):
        MetaPseudoLabels(plain(1), student, steps=9).step(*examples())
    assert_same(before, student.state_dict())


@pytest.mark.parametrize("wrong", [torch.zeros(5).long(), torch.zeros(8), torch.zeros(8, 1).long()])
def test_true_labels_of_other_examples_are_refused(wrong: Tensor) -> None:
    """Fewer of them gave a share of wrong pseudo labels, of those that there were."""
    with pytest.raises(ValueError, match=r"true_labels is .*; needs a whole number for each of weak: int64 \[8\]"):
        ready().step(*examples(), true_labels=wrong)


def test_what_comes_too_late() -> None:
    """A loss that is not finite, more steps than were said, an average or a state that is not there."""
    library = MetaPseudoLabels(plain(1), plain(2), steps=1)
    x, y, weak, strong = examples()
    with pytest.raises(ValueError, match="step 1: student_loss is nan; look for NaN in the examples, lower"):
        library.step(x, y, weak, strong * torch.nan)
    with pytest.raises(ValueError, match="step 2: steps = 1 are done; make MetaPseudoLabels with more"):
        library.step(x, y, weak, strong)
    with pytest.raises(ValueError, match="average_decay = 0: no average is kept; set average_decay"):
        _ = library.student_average
    with pytest.raises(ValueError, match=r"state_dict: teacher.momentum.0 is missing, here \[6, 3, 3, 3\]; make"):
        ready().load_state_dict(library.state_dict())
