"""The recipes against what paper and released code say, line by line, and the runs against their recipes."""

from __future__ import annotations

from typing import Any

import pytest

from repro.config import as_mapping, departures, lookup
from repro.optim import learning_rate
from repro.plan import compose, run_names
from repro.settings import ConfigError, View
from tests.recipe_cases import COLUMNS, ROOT, changed, composed, departing, leaves, prescribed, values

PAPER, RELEASED, _, _ = COLUMNS
REGULARISER = "cifar10_paper_mpl_regulariser"
SVHN_PAPER = "svhn_paper_mpl"
SVHN = [SVHN_PAPER, "svhn_paper_mpl_regulariser", "svhn_released_mpl_released"]
_CIFAR10 = {"budget.steps": 50_000, "budget.labelled_batch": 1024, "optim.teacher.learning_rate": 0.4,
            "model.teacher_dropout": 0.4, "data.labels": 4000}  # fmt: skip
_SVHN = {"budget.steps": 50_000, "budget.labelled_batch": 128, "optim.teacher.learning_rate": 0.05,
         "model.teacher_dropout": 0.5, "data.labels": 1000, "method.label_smoothing": 0.0}  # fmt: skip
BASELINES: dict[str, dict[str, Any]] = {  # paper, Tables 6, 7, 9 and 10
    "cifar10_paper_supervised": _CIFAR10 | {"data.split": "paper"},
    "cifar10_paper_supervised_all": _CIFAR10 | {"data.labels": 50_000},
    "cifar10_paper_supervised_alone": _CIFAR10 | {"method.label_smoothing": 0.0},
    "cifar10_paper_supervised_smoothing": _CIFAR10 | {"method.label_smoothing": 0.1},
    "cifar10_paper_mixup": _CIFAR10 | {
        "data.split": "paper", "method.label_smoothing": 0.0, "method.mixup": 1.0, "method.labelled_view": "weak",
    },
    "cifar10_paper_randaugment": _CIFAR10 | {
        "data.split": "paper", "method.label_smoothing": 0.0, "method.mixup": 0.0, "method.labelled_view": "strong",
        "data.views.operations": "paper",
    },
    "cifar10_paper_pseudo_label": {
        "budget.steps": 50_000 + 50_000, "method.teacher_steps": 50_000, "budget.labelled_batch": 1024,
        "optim.student.learning_rate": 0.4, "model.student_dropout": 0.4, "method.threshold": 0.95,
    },
    "cifar10_paper_uda": {
        "budget.steps": 1_000_000, "budget.labelled_batch": 128, "optim.teacher.learning_rate": 0.3,
        "model.teacher_dropout": 0.5, "method.weight": 2.5, "method.temperature": 0.7,
    },
    "svhn_paper_supervised": _SVHN,
    "svhn_paper_supervised_all": _SVHN | {"data.labels": 73_257, "data.train_images": 73_257},
    "svhn_paper_supervised_alone": _SVHN | {"data.train_images": 1000},
    "svhn_paper_supervised_smoothing": _SVHN | {"data.train_images": 1000, "method.label_smoothing": 0.1},
    "svhn_paper_pseudo_label": {
        "budget.steps": 50_000 + 50_000, "method.teacher_steps": 50_000, "budget.labelled_batch": 128,
        "optim.student.learning_rate": 0.05, "model.student_dropout": 0.5, "method.threshold": 0.975,
    },
    "svhn_paper_uda": {
        "budget.steps": 1_000_000, "budget.labelled_batch": 128, "optim.teacher.learning_rate": 0.4,
        "model.teacher_dropout": 0.6, "method.weight": 1.0, "method.temperature": 0.8,
        "data.views.operations": "paper_svhn",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_recipes_are_those_of_the_sources(name: str) -> None:
    """Every setting has the value that its source gives."""
    wanted = prescribed(name)

    assert len(wanted) > 50
    assert wanted == values(name, wanted)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_recipe_settles_or_names_every_line(name: str) -> None:
    """Each line of the table is prescribed by the recipe, or named as open in it; none can change unseen."""
    recipe = composed(name).recipe
    our_own = {"optim.average_start", "finetune.learning_rate", "finetune.batch", "model.name"}

    assert prescribed(name).keys() - recipe.values.keys() - recipe.open.keys() <= our_own


@pytest.mark.parametrize("name", [PAPER, RELEASED])
def test_every_setting_is_in_the_table(name: str) -> None:
    """A setting that decides numbers and that nobody compared with the sources would be a silent choice of ours."""
    free = {"data.name", "data.root", "method.name", "method.uda.name", "method.shuffle_window", "optim.average_start",
            "method.teacher_pseudo_label.threshold", "method.teacher_pseudo_label.ramp_steps", "method.feedback_share",
            "engine.channels_last", "engine.threads", "engine.readers",
            "engine.batch_norm_processes", "engine.cuda_graph", "engine.compile", "engine.fastest"}  # fmt: skip
    mapping = as_mapping(composed(name))
    keys = set(leaves({part: mapping[part] for part in ("data", "model", "method", "optim", "engine")}))

    assert set() == keys - prescribed(name).keys() - free


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_are_those_of_the_paper(name: str) -> None:
    """The authors' own supervised, Pseudo Labels and UDA rows, on the same network; no recipe departs from itself."""
    mapping = as_mapping(composed(name))
    counted = "student" if mapping["method"]["name"] == "pseudo_label" else "teacher"
    shared = {"schedule": "cosine", "momentum": 0.9, "weight_decay": 5e-4}

    assert BASELINES[name] == values(name, BASELINES[name])
    assert shared == {key: mapping["optim"][counted][key] for key in shared}
    assert (28, 2) == (mapping["model"]["depth"], mapping["model"]["width"])
    assert [] == departing(composed(name))


TEACHERS: dict[str, dict[str, Any]] = {  # paper, Table 10: what MPL's teacher learns in place of UDA
    "cifar10_paper_mpl_pseudo_label": {
        "method.teacher_pseudo_label.weight": 1.0, "method.pseudo_label_view": "weak", "method.student_view": "weak",
    },
    "cifar10_paper_mpl_mixup": {
        "method.teacher_mixup": 1.0, "method.pseudo_label_view": "weak", "method.student_view": "weak",
    },
    "cifar10_paper_mpl_randaugment": {"method.teacher_labelled_view": "strong"},
}  # fmt: skip


@pytest.mark.parametrize("name", TEACHERS)
def test_other_teachers_differ_from_uda_s_in_what_they_are_named_for(name: str) -> None:
    """Table 10: MPL by the paper's recipe, with another loss in place of UDA's; weak views where it has no other."""
    wanted = TEACHERS[name] | {"method.uda.weight": 0.0}

    assert wanted.keys() == changed(PAPER, name)
    assert wanted == values(name, wanted)


@pytest.mark.parametrize(("name", "override"), [
    ("cifar10_paper_mpl_mixup", "method.uda.weight=1.0"),
    ("cifar10_paper_mpl_randaugment", "method.teacher_labelled_view=weak"),
    ("cifar10_paper_mpl_pseudo_label", "method.teacher_mixup=1.0"),
    ("cifar10_paper_mpl", "method.teacher_pseudo_label.weight=1.0"),
    ("cifar10_paper_supervised", "method.labelled_view=strong"),
    ("cifar10_paper_randaugment", "method.mixup=1.0"),
])  # fmt: skip
def test_another_teacher_departs_from_a_recipe(name: str, override: str) -> None:
    """A row of Table 10 cannot stand for another one."""
    assert [override.partition("=")[0]] == departing(compose(name, [override], ROOT))


IMAGENET = [name for name in run_names(ROOT) if name.startswith("imagenet_")]


@pytest.mark.parametrize("name", [PAPER, RELEASED, REGULARISER, *TEACHERS, *IMAGENET, *SVHN])
def test_a_recipe_s_own_run_departs_from_nothing(name: str) -> None:
    """What is called the paper's or the released recipe has only departures that its source leaves open."""
    assert [] == departing(composed(name))
    if name == RELEASED:
        assert [] == departures(composed(name))


LABELLED_ALONE = {"data.labelled_in_unlabelled", "data.train_images"}
ARMS: list[tuple[str, str, set[str]]] = [
    ("cifar10_paper_mpl", "no_feedback", {"method.feedback"}),
    ("cifar10_paper_mpl", "dot_product", {"method.feedback", "method.baseline"}),
    ("cifar10_paper_mpl", "finite_difference", {"method.feedback"}),
    ("cifar10_paper_mpl", "no_baseline", {"method.baseline"}),
    ("cifar10_paper_mpl", "reversed", {"method.feedback_sign"}),
    ("cifar10_paper_mpl", "soft", {"method.pseudo_label"}),
    ("cifar10_paper_mpl", "argmax", {"method.pseudo_label"}),
    ("cifar10_paper_mpl", "average", {"optim.average_decay", "optim.average_start"}),
    ("cifar10_paper_mpl", "labelled_among", {"data.labelled_in_unlabelled"}),
    ("cifar10_paper_mpl", "regulariser",
     LABELLED_ALONE | {"method.pseudo_label_view", "method.student_view", "method.uda.weight"}),
    ("cifar10_paper_supervised", "alone", LABELLED_ALONE),
    ("cifar10_released_mpl", "no_feedback", {"method.feedback"}),
    ("cifar10_released_mpl", "baseline", {"method.baseline"}),
    ("cifar10_released_mpl", "dot_product", {"method.feedback"}),
    ("cifar10_released_mpl", "cosine", {"method.feedback", "method.baseline"}),
    ("cifar10_released_mpl", "reversed", {"method.feedback_sign"}),
    ("cifar10_released_mpl", "shuffled", {"method.feedback"}),
    ("cifar10_released_mpl", "soft", {"method.pseudo_label"}),
    ("cifar10_released_mpl", "argmax", {"method.pseudo_label"}),
    ("cifar10_released_mpl", "released_batch_norm", {"method.feedback_batch_norm"}),
    ("cifar10_released_mpl", "no_average", {"optim.average_decay"}),
    ("cifar10_released_mpl", "labelled_apart", {"data.labelled_in_unlabelled"}),
    ("cifar10_released_mpl", "released", {"method.pseudo_label", "method.feedback_sign", "method.feedback_batch_norm",
                                          "method.baseline"}),
    ("svhn_paper_mpl", "no_feedback", {"method.feedback"}),
    ("svhn_paper_mpl", "regulariser",
     LABELLED_ALONE | {"method.pseudo_label_view", "method.student_view", "method.uda.weight"}),
    ("svhn_paper_supervised", "alone", LABELLED_ALONE),
    ("svhn_paper_supervised", "all", LABELLED_ALONE | {"data.labels"}),
    ("svhn_released_mpl", "no_feedback", {"method.feedback"}),
]  # fmt: skip


@pytest.mark.parametrize(("like", "arm", "differs_in"), [
    *((like, f"{like}_{arm}", differs_in) for like, arm, differs_in in ARMS),
    ("cifar10_paper_mpl_finite_difference", "cifar10_paper_mpl_shuffled", {"method.feedback"}),
    ("cifar10_paper_supervised_alone", "cifar10_paper_supervised_smoothing", {"method.label_smoothing"}),
    ("svhn_paper_supervised_alone", "svhn_paper_supervised_smoothing", {"method.label_smoothing"}),
    ("imagenet_paper_mpl", "imagenet_paper_supervised_mpl",
     {"method.uda.weight", "method.pseudo_label_view", "method.student_view"}),
    ("imagenet_paper_supervised", "imagenet_paper_randaugment", {"method.labelled_view"}),
])  # fmt: skip
def test_an_arm_switches_only_what_it_names(like: str, arm: str, differs_in: set[str]) -> None:
    """It differs from what it is compared with, or from its control, in exactly the settings that it is about."""
    assert differs_in == changed(like, arm)


@pytest.mark.parametrize("data", ["cifar10", "svhn"])
def test_mpl_as_regulariser_has_no_other_images_and_no_strong_view(data: str) -> None:
    """Table 9: the unlabelled images are the labelled ones, nothing is RandAugmented, and its rows have its data."""
    regulariser = composed(f"{data}_paper_mpl_regulariser")

    assert {View.weak} == regulariser.method.views
    for arm in ("alone", "smoothing"):
        assert regulariser.data == composed(f"{data}_paper_supervised_{arm}").data


def test_shortening_keeps_the_shape_of_a_run() -> None:
    """A hundredth of the steps has a hundredth of wait, warm-up and ramp and the same rates; and it says so."""
    whole = composed(RELEASED)
    short = compose(RELEASED, ["budget.shortened_to=3000"], ROOT)

    assert (3000, 5) == (short.budget.steps, short.budget.log_every)
    student = short.optim.student
    assert (30, 50, 50) == (student.wait_steps, student.warmup_steps, short.method.uda.ramp_steps)
    for role in ("student", "teacher"):
        ours, theirs = getattr(short.optim, role), getattr(whole.optim, role)
        # The warm-up is counted from its first step, so that it is one step of 50 ahead of one of 5,000.
        pairs = [
            (learning_rate(ours, step, 3000), learning_rate(theirs, 100 * step, 300_000))
            for step in range(100, 3000, 50)
        ]
        assert all(abs(a - b) < 1e-9 for a, b in pairs)
    assert "3,000 of 300,000 steps" in short.budget.reduced
    assert {"budget.steps", "budget", "method.uda.ramp_steps", "optim.student.wait_steps", "optim.student.warmup_steps",
            "optim.teacher.warmup_steps"} == {d.key for d in departures(short)}  # fmt: skip


def test_shortening_a_fixed_teacher_shortens_both_phases() -> None:
    """Teacher and student of Pseudo Labels keep their halves; 0 and the full length change nothing."""
    short = compose("cifar10_released_pseudo_label", ["budget.shortened_to=600"], ROOT)
    same = compose("cifar10_released_pseudo_label", ["budget.shortened_to=600000"], ROOT)

    assert (600, 300) == (short.budget.steps, lookup(as_mapping(short), "method.teacher_steps"))
    assert (600_000, "") == (same.budget.steps, same.budget.reduced)


def test_a_run_cannot_be_shortened_to_more() -> None:
    """Lengthening a recipe is not reducing it."""
    with pytest.raises(ConfigError, match=r"budget.shortened_to = 300001: is longer than budget.steps = 300000"):
        compose(RELEASED, ["budget.shortened_to=300001"], ROOT)


# SVHN


# How SVHN-1K differs from CIFAR-10-4K in the paper (Tables 5 and 8). Typed from the source, not from the YAML.
PAPER_IS_UNLIKE_CIFAR10: dict[str, Any] = {
    "optim.student.learning_rate": 0.15,
    "optim.teacher.learning_rate": 0.05,
    "model.student_dropout": 0.45,
    "model.teacher_dropout": 0.65,
    "method.uda.weight": 2.5,
    "method.uda.temperature": 1.25,
    "data.views.operations": "paper_svhn",
    "data.views.flip": False,  # not given
}
DATA = {"data.name", "data.split", "data.balanced", "data.labels", "data.train_images", "data.test_images"}
OURS = {"budget.curve_examples"}


def test_the_papers_mpl_is_that_of_cifar10_but_for_its_own_column() -> None:
    """Every setting that Table 8 gives SVHN's own value has it, and no other setting differs."""
    assert PAPER_IS_UNLIKE_CIFAR10 == values(SVHN_PAPER, PAPER_IS_UNLIKE_CIFAR10)
    assert changed("cifar10_paper_mpl", SVHN_PAPER) - DATA - OURS == PAPER_IS_UNLIKE_CIFAR10.keys()


def test_the_papers_data_are_1000_labels_and_the_rest_of_train_and_extra() -> None:
    """About 603,000 unlabelled images; the same for all arms that are compared with MPL."""
    data = composed(SVHN_PAPER).data
    wanted = {"name": "svhn", "balanced": False, "labels": 1000, "labelled_in_unlabelled": False,
              "train_images": 73_257 + 531_131, "test_images": 26_032}  # fmt: skip

    assert wanted == {key: getattr(data, key) for key in wanted}
    for arm in ("mpl_no_feedback", "uda", "pseudo_label", "supervised"):
        assert data == composed(f"svhn_paper_{arm}").data


@pytest.mark.parametrize("arm", ["uda", "mpl", "mpl_no_feedback", "mpl_released"])
def test_the_released_form_is_that_of_cifar10_on_svhns_images(arm: str) -> None:
    """The authors released no command for SVHN: nothing but the data, their operations and the flips differs."""
    differs = changed(f"cifar10_released_{arm}", f"svhn_released_{arm}") - DATA - OURS

    assert {"data.views.operations", "data.views.flip"} == differs
    data = composed(f"svhn_released_{arm}").data
    assert (1000, 604_388, True) == (data.labels, data.train_images, data.labelled_in_unlabelled)  # type: ignore[union-attr]
    assert "none was released for SVHN" in composed(f"svhn_released_{arm}").recipe.source


@pytest.mark.parametrize("name", SVHN)
def test_a_recipe_settles_or_names_what_cifar10s_does(name: str) -> None:
    """No setting that CIFAR-10's recipe prescribes or leaves open is silent in SVHN's, but for its split's name."""
    recipe, theirs = composed(name).recipe, composed(name.replace("svhn", "cifar10")).recipe

    spoken, wanted = {*recipe.values, *recipe.open}, {*theirs.values, *theirs.open}
    assert wanted - {"data.split"} | {"data.balanced"} == spoken
