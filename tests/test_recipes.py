"""The recipes against what paper and released code say, line by line, and the runs against their recipes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from repro.config.compose import compose, experiments, read_plan
from repro.config.departures import departures, lookup
from repro.config.methods import Mpl, View
from repro.config.read import ConfigError, as_mapping
from repro.config.schema import Config, Optimiser
from repro.methods.mpl import views
from repro.optim.schedules import learning_rate

ROOT = Path(__file__).parent.parent / "experiments"
PAPER, RELEASED = "cifar10_paper_mpl", "cifar10_released_mpl_released"
REGULARISER = "cifar10_paper_mpl_regulariser"

# What CIFAR-10-4K is trained with: the paper (Tables 5 to 8, Appendix C) and the released code (its README's command,
# the flags' defaults). Typed from the sources, not from the YAML.
TABLE: list[tuple[str, Any, Any]] = [
    ("budget.steps", 1_000_000, 300_000),
    ("budget.labelled_batch", 128, 128),
    ("budget.unlabelled_batch", 128, 7 * 128),
    ("optim.student.learning_rate", 0.3, 0.1 * 128 / 256),
    ("optim.teacher.learning_rate", 0.125, 0.1 * 128 / 256),
    ("optim.student.schedule", "cosine", "cosine"),
    ("optim.teacher.schedule", "cosine", "cosine"),
    ("optim.student.warmup_steps", 2000, 5000),
    ("optim.teacher.warmup_steps", 2000, 5000),
    ("optim.student.wait_steps", 0, 3000),
    ("optim.teacher.wait_steps", 0, 0),
    ("optim.student.momentum", 0.9, 0.9),
    ("optim.teacher.momentum", 0.9, 0.9),
    ("optim.student.weight_decay", 5e-4, 5e-4),
    ("optim.teacher.weight_decay", 5e-4, 5e-4),
    ("method.uda.label_smoothing", 0.1, 0.15),
    ("method.student_label_smoothing", 0.1, 0.15),
    ("model.student_dropout", 0.35, 0.2),
    ("model.teacher_dropout", 0.5, 0.2),
    ("method.uda.weight", 1.0, 8.0),
    ("method.uda.ramp_steps", 0, 5000),
    ("method.uda.temperature", 0.8, 0.7),
    ("method.uda.threshold", 0.0, 0.6),
    ("optim.average_decay", 0.0, 0.995),
    ("optim.average_start", "weights", "released"),
    ("optim.student.clip_norm", 0.0, 0.0),
    ("optim.teacher.clip_norm", 0.0, 0.0),
    ("model.name", "wide_resnet", "wide_resnet"),
    ("model.depth", 28, 28),
    ("model.width", 2, 2),
    ("model.norm_decay", 0.99, 0.99),
    ("model.norm_epsilon", 1e-3, 1e-3),
    ("model.leak", 0.2, 0.2),
    ("engine.precision", "bfloat16", "bfloat16"),
    ("data.split", "paper", "released"),
    ("data.labels", 4000, 4000),
    ("data.labelled_in_unlabelled", False, True),
    ("data.train_images", 50_000, 50_000),
    ("data.test_images", 10_000, 10_000),
    ("finetune.steps", 1000, 0),
    ("finetune.learning_rate", 1e-5, 1e-5),
    ("finetune.batch", 512, 6),
    ("data.views.operations", "paper", "released"),
    ("data.views.arithmetic", "standard", "released"),
    ("data.views.layers", 2, 2),
    ("data.views.magnitude", 16.0, 16.0),
    ("data.views.lowest_rate", 0.2, 0.2),
    ("data.views.highest_rate", 0.8, 0.8),
    ("data.views.cutout", 16, 16),
    ("data.views.crop_padding", 4, 4),
    ("data.views.fill", 128, 128),
    ("data.views.flip", True, True),
    ("data.views.recrop", True, True),
    ("method.pseudo_label", "sampled", "soft"),
    ("method.feedback", "cosine", "finite_difference"),
    ("method.feedback_sign", "old_minus_new", "new_minus_old"),
    ("method.feedback_scope", "batch", "batch"),
    ("method.feedback_weight", 1.0, 1.0),
    ("method.feedback_batch_norm", "matched", "released"),
    ("method.baseline", "moving_average", "moving_average"),
    ("method.baseline_rate", 0.01, 0.01),
    ("method.pseudo_label_view", "strong", "strong"),
    ("method.student_view", "strong", "strong"),
    ("method.teacher_supervised", True, True),
    ("method.teacher_labelled_view", "weak", "weak"),
    ("method.teacher_mixup", 0.0, 0.0),
    ("method.teacher_pseudo_label.weight", 0.0, 0.0),
]
BASELINES: dict[str, dict[str, Any]] = {  # paper, Tables 6, 7, 9 and 10
    "cifar10_paper_supervised": {
        "budget.steps": 50_000, "budget.labelled_batch": 1024, "optim.teacher.learning_rate": 0.4,
        "model.teacher_dropout": 0.4, "data.split": "paper", "data.labels": 4000,
    },
    "cifar10_paper_supervised_all": {
        "budget.steps": 50_000, "budget.labelled_batch": 1024, "optim.teacher.learning_rate": 0.4,
        "model.teacher_dropout": 0.4, "data.labels": 50_000,
    },
    "cifar10_paper_supervised_alone": {
        "budget.steps": 50_000, "budget.labelled_batch": 1024, "optim.teacher.learning_rate": 0.4,
        "model.teacher_dropout": 0.4, "data.labels": 4000, "method.label_smoothing": 0.0,
    },
    "cifar10_paper_supervised_smoothing": {
        "budget.steps": 50_000, "budget.labelled_batch": 1024, "optim.teacher.learning_rate": 0.4,
        "model.teacher_dropout": 0.4, "data.labels": 4000, "method.label_smoothing": 0.1,
    },
    "cifar10_paper_mixup": {
        "budget.steps": 50_000, "budget.labelled_batch": 1024, "optim.teacher.learning_rate": 0.4,
        "model.teacher_dropout": 0.4, "data.split": "paper", "data.labels": 4000, "method.label_smoothing": 0.0,
        "method.mixup": 1.0, "method.labelled_view": "weak",
    },
    "cifar10_paper_randaugment": {
        "budget.steps": 50_000, "budget.labelled_batch": 1024, "optim.teacher.learning_rate": 0.4,
        "model.teacher_dropout": 0.4, "data.split": "paper", "data.labels": 4000, "method.label_smoothing": 0.0,
        "method.mixup": 0.0, "method.labelled_view": "strong", "data.views.operations": "paper",
    },
    "cifar10_paper_pseudo_label": {
        "budget.steps": 50_000 + 50_000, "method.teacher_steps": 50_000, "budget.labelled_batch": 1024,
        "optim.student.learning_rate": 0.4, "model.student_dropout": 0.4, "method.threshold": 0.95,
    },
    "cifar10_paper_uda": {
        "budget.steps": 1_000_000, "budget.labelled_batch": 128, "optim.teacher.learning_rate": 0.3,
        "model.teacher_dropout": 0.5, "method.weight": 2.5, "method.temperature": 0.7,
    },
}  # fmt: skip


@cache
def composed(name: str) -> Config:
    """The settings of an experiment; composing takes Hydra a tenth of a second."""
    return compose(name, root=ROOT)


@pytest.mark.parametrize(("key", "paper", "released"), TABLE, ids=[key for key, *_ in TABLE])
def test_recipes_are_those_of_the_sources(key: str, paper: Any, released: Any) -> None:
    """Both composed configurations hold the value that their source gives."""
    values = [lookup(as_mapping(composed(name)), key) for name in (PAPER, RELEASED)]

    assert [paper, released] == values


@pytest.mark.parametrize("name", [PAPER, RELEASED])
def test_every_setting_is_in_the_table(name: str) -> None:
    """A setting that decides numbers and that nobody compared with the sources would be a silent choice of ours."""
    free = {"data.name", "data.root", "method.name", "method.uda.name", "method.shuffle_window", "optim.average_start",
            "method.feedback_share", "method.teacher_pseudo_label.threshold", "method.teacher_pseudo_label.ramp_steps",
            "engine.channels_last", "engine.threads", "engine.recompute", "engine.micro_batches", "engine.readers",
            "engine.batch_norm_processes", "engine.side_by_side", "engine.cuda_graph"}  # fmt: skip
    mapping = as_mapping(composed(name))
    sections = {part: mapping[part] for part in ("data", "model", "method", "optim", "engine")}
    keys = set(_leaves(sections, ""))

    assert set() == keys - {key for key, *_ in TABLE} - free


def _leaves(mapping: dict[str, Any], path: str) -> list[str]:
    return [
        leaf
        for key, value in mapping.items()
        for leaf in (_leaves(value, f"{path}{key}.") if isinstance(value, dict) else [f"{path}{key}"])
    ]


@pytest.mark.parametrize(("name", "values"), BASELINES.items(), ids=list(BASELINES))
def test_baselines_are_those_of_the_paper(name: str, values: dict[str, Any]) -> None:
    """The authors' own supervised, Pseudo Labels and UDA rows, on the same network."""
    mapping = as_mapping(composed(name))

    counted = "student" if mapping["method"]["name"] == "pseudo_label" else "teacher"
    shared = {"schedule": "cosine", "momentum": 0.9, "weight_decay": 5e-4}
    assert values == {key: lookup(mapping, key) for key in values}
    assert shared == {key: mapping["optim"][counted][key] for key in shared}
    assert {"depth": 28, "width": 2} == {key: mapping["model"][key] for key in ("depth", "width")}


TEACHERS: dict[str, dict[str, Any]] = {  # paper, Table 10: what MPL's teacher learns in place of UDA
    "cifar10_paper_mpl_pseudo_label": {
        "method.teacher_pseudo_label.weight": 1.0, "method.pseudo_label_view": "weak", "method.student_view": "weak",
    },
    "cifar10_paper_mpl_mixup": {
        "method.teacher_mixup": 1.0, "method.pseudo_label_view": "weak", "method.student_view": "weak",
    },
    "cifar10_paper_mpl_randaugment": {"method.teacher_labelled_view": "strong"},
}  # fmt: skip


@pytest.mark.parametrize(("name", "values"), TEACHERS.items(), ids=list(TEACHERS))
def test_other_teachers_differ_from_uda_s_in_what_they_are_named_for(name: str, values: dict[str, Any]) -> None:
    """Table 10: MPL by the paper's recipe, with another loss in place of UDA's; weak views where it has no other."""
    assert {"title", "method.uda.weight"} | values.keys() == _changed(PAPER, name)
    assert {"method.uda.weight": 0.0} | values == {
        key: lookup(as_mapping(composed(name)), key) for key in ("method.uda.weight", *values)
    }


def test_reduced_mpl_departs_from_the_paper_in_data_and_network() -> None:
    """Its data and network are MPL's, not Table 11's, which its list of departures says; its losses are MPL's."""
    found = {departure.key for departure in departures(composed("cifar10_paper_reduced_mpl")) if not departure.open}
    reduced, whole = (as_mapping(composed(f"cifar10_paper_{name}")) for name in ("reduced_mpl", "mpl"))

    assert {"data.labels", "model.name"} == found
    assert whole["method"] == reduced["method"]["mpl"]
    assert {"steps"} == {key for key in whole["budget"] if whole["budget"][key] != reduced["budget"][key]}
    for section in ("data", "model", "optim", "finetune", "engine"):
        assert whole[section] == reduced[section]


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("cifar10_paper_mpl_mixup", "method.uda.weight=1.0"),
        ("cifar10_paper_mpl_randaugment", "method.teacher_labelled_view=weak"),
        ("cifar10_paper_mpl_pseudo_label", "method.teacher_mixup=1.0"),
        ("cifar10_paper_mpl", "method.teacher_pseudo_label.weight=1.0"),
        ("cifar10_paper_mpl", "method.teacher_mixup=1.0"),
        ("cifar10_paper_supervised", "method.labelled_view=strong"),
        ("cifar10_paper_supervised", "method.mixup=1.0"),
        ("cifar10_paper_randaugment", "method.mixup=1.0"),
        ("cifar10_paper_mixup", "method.labelled_view=strong"),
    ],
)
def test_another_teacher_departs_from_a_recipe(name: str, override: str) -> None:
    """A row of Table 10 cannot stand for another one."""
    assert [override.partition("=")[0]] == [d.key for d in departures(compose(name, [override], ROOT)) if not d.open]


@pytest.mark.parametrize("name", [PAPER, RELEASED, REGULARISER, *BASELINES, *TEACHERS])
def test_a_recipe_s_own_run_departs_from_nothing(name: str) -> None:
    """What is called the paper's or the released recipe has only departures that its source leaves open."""
    found = departures(composed(name))

    assert [] == [departure.key for departure in found if not departure.open]
    assert (name == RELEASED) == (found == [])


@pytest.mark.parametrize("name", [PAPER, RELEASED])
def test_a_recipe_settles_or_names_every_line(name: str) -> None:
    """Each line of the table is prescribed by the recipe, or named as open in it; none can change unseen."""
    recipe = composed(name).recipe
    our_own = {"optim.average_start", "finetune.learning_rate", "finetune.batch", "model.name"}
    unnamed = {key for key, *_ in TABLE} - recipe.values.keys() - recipe.open.keys()

    assert unnamed <= our_own


@pytest.mark.parametrize(
    ("arm", "differs_in"),
    [
        ("paper_mpl_no_feedback", {"method.feedback"}),
        ("paper_mpl_dot_product", {"method.feedback", "method.baseline"}),
        ("paper_mpl_finite_difference", {"method.feedback"}),
        ("paper_mpl_no_baseline", {"method.baseline"}),
        ("paper_mpl_reversed", {"method.feedback_sign"}),
        ("paper_mpl_soft", {"method.pseudo_label"}),
        ("paper_mpl_argmax", {"method.pseudo_label"}),
        ("paper_mpl_average", {"optim.average_decay", "optim.average_start"}),
        ("paper_mpl_labelled_among", {"data.labelled_in_unlabelled"}),
        ("released_mpl_no_feedback", {"method.feedback"}),
        ("released_mpl_baseline", {"method.baseline"}),
        ("released_mpl_dot_product", {"method.feedback"}),
        ("released_mpl_cosine", {"method.feedback", "method.baseline"}),
        ("released_mpl_reversed", {"method.feedback_sign"}),
        ("released_mpl_shuffled", {"method.feedback"}),
        ("released_mpl_soft", {"method.pseudo_label"}),
        ("released_mpl_argmax", {"method.pseudo_label"}),
        ("released_mpl_released_batch_norm", {"method.feedback_batch_norm"}),
        ("released_mpl_no_average", {"optim.average_decay"}),
        ("released_mpl_labelled_apart", {"data.labelled_in_unlabelled"}),
        ("released_mpl_released", {"method.pseudo_label", "method.feedback_sign", "method.feedback_batch_norm",
                                   "method.baseline"}),
    ],
)  # fmt: skip
def test_an_arm_switches_only_what_it_names(arm: str, differs_in: set[str]) -> None:
    """An arm differs from MPL in its own setting in exactly the settings that it is about."""
    setting = arm.split("_", maxsplit=1)[0]
    base, other = (as_mapping(composed(f"cifar10_{name}")) for name in (f"{setting}_mpl", arm))
    for mapping in (base, other):
        del mapping["title"]

    assert differs_in == {key for key in _leaves(base, "") if lookup(base, key) != lookup(other, key)}


def test_mpl_as_regulariser_has_no_other_images_and_no_strong_view() -> None:
    """Table 9: MPL by the paper's recipe, but with the labelled images as unlabelled ones, no RandAugment, no UDA."""
    regulariser = composed(REGULARISER)

    assert {"title", "data.labelled_in_unlabelled", "data.train_images", "method.pseudo_label_view",
            "method.student_view", "method.uda.weight"} == _changed(PAPER, REGULARISER)  # fmt: skip
    assert isinstance(regulariser.method, Mpl)
    assert {View.weak} == views(regulariser.method)


@pytest.mark.parametrize(
    ("arm", "like", "differs_in"),
    [
        ("supervised_alone", "supervised", {"data.labelled_in_unlabelled", "data.train_images"}),
        ("supervised_smoothing", "supervised_alone", {"method.label_smoothing"}),
    ],
)
def test_the_rows_beside_the_regulariser_are_its_pairs(arm: str, like: str, differs_in: set[str]) -> None:
    """Supervised learning as in its own run, on the regulariser's data, of which it sees the labelled images only."""
    arm, like = f"cifar10_paper_{arm}", f"cifar10_paper_{like}"

    assert {"title"} | differs_in == _changed(like, arm)
    assert composed(REGULARISER).data == composed(arm).data


def _changed(like: str, arm: str) -> set[str]:
    """The settings in which two experiments differ, their recipes aside."""
    base, other = as_mapping(composed(like)), as_mapping(composed(arm))
    del base["recipe"]
    return {key for key in _leaves(base, "") if lookup(base, key) != lookup(other, key)}


def test_the_shuffled_arm_differs_from_its_control_alone() -> None:
    """In the paper's setting h is a cosine; its shuffled arm is one of the measured difference, as its control is."""
    base, other = (as_mapping(composed(f"cifar10_paper_mpl_{arm}")) for arm in ("finite_difference", "shuffled"))

    assert {"title", "method.feedback"} == {key for key in _leaves(base, "") if lookup(base, key) != lookup(other, key)}


def test_every_arm_is_in_the_cross_examination() -> None:
    """The plans hold every CIFAR-10 experiment; none is written and forgotten."""
    planned = {
        run.experiment
        for plan in ("cross_examination", "cifar10_4k", "cifar10_small")
        for run in read_plan(_plan(plan))
    }

    repeats = {"cifar10_released_mpl_no_average"}  # of networks that another arm's record has
    assert {name for name in experiments(ROOT) if name.startswith("cifar10_")} - repeats == planned


def test_the_smoke_plan_has_every_arm_of_the_released_setting() -> None:
    """Each arm is shown to train, under its own name; so are MPL and Table 10's other teachers in the paper's."""
    arms = {name.removeprefix("cifar10_released_") for name in experiments(ROOT) if name.startswith("cifar10_released")}

    paper = {"mpl", "mixup", "randaugment", "mpl_pseudo_label", "mpl_mixup", "mpl_randaugment", "reduced_mpl"}
    assert arms | {f"paper_{arm}" for arm in paper} == {
        run.name.removeprefix("cifar10_smoke_") for run in read_plan(_plan("cifar10_smoke"))
    }


def _plan(name: str) -> Path:
    return ROOT / "plan" / f"{name}.yaml"


def test_shortening_keeps_the_shape_of_a_run() -> None:
    """A hundredth of the steps has a hundredth of wait, warm-up and ramp and the same rates; and it says so."""
    whole = composed(RELEASED)
    short = compose(RELEASED, ["budget.shortened_to=3000"], ROOT)

    assert (3000, 5) == (short.budget.steps, short.budget.log_every)
    assert (30, 50, 50) == (
        short.optim.student.wait_steps,
        short.optim.student.warmup_steps,
        short.method.uda.ramp_steps,
    )
    for role in ("student", "teacher"):
        ours, theirs = getattr(short.optim, role), getattr(whole.optim, role)
        # The warm-up is counted from its first step, so that it is one step of 50 ahead of one of 5,000.
        pairs = [(_rate(ours, step, 3000), _rate(theirs, 100 * step, 300_000)) for step in range(100, 3000, 50)]
        assert all(abs(a - b) < 1e-9 for a, b in pairs)
    assert "3,000 of 300,000 steps" in short.budget.reduced
    assert {"budget.steps", "budget", "method.uda.ramp_steps", "optim.student.wait_steps", "optim.student.warmup_steps",
            "optim.teacher.warmup_steps"} == {d.key for d in departures(short)}  # fmt: skip


def _rate(optimiser: Optimiser, step: int, steps: int) -> float:
    return learning_rate(optimiser, step, steps)


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
