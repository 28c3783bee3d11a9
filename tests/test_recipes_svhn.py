"""SVHN's recipes against what paper and released code say, line by line, and its runs against their recipes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from repro.config import Config, as_mapping, departures, lookup
from repro.methods import Mpl
from repro.methods.mpl import views
from repro.plan import compose, experiments, read_plan
from repro.settings import View

ROOT = Path(__file__).parent.parent / "experiments"
PAPER, REGULARISER = "svhn_paper_mpl", "svhn_paper_mpl_regulariser"

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
OURS = {"title", "budget.curve_examples"}
BASELINES: dict[str, dict[str, Any]] = {  # paper, Tables 6, 7 and 9
    "svhn_paper_supervised": {
        "budget.steps": 50_000, "budget.labelled_batch": 128, "optim.teacher.learning_rate": 0.05,
        "model.teacher_dropout": 0.5, "data.labels": 1000, "method.label_smoothing": 0.0,
    },
    "svhn_paper_supervised_all": {
        "budget.steps": 50_000, "budget.labelled_batch": 128, "optim.teacher.learning_rate": 0.05,
        "model.teacher_dropout": 0.5, "data.labels": 73_257, "data.train_images": 73_257,
    },
    "svhn_paper_supervised_alone": {
        "budget.steps": 50_000, "budget.labelled_batch": 128, "optim.teacher.learning_rate": 0.05,
        "model.teacher_dropout": 0.5, "data.labels": 1000, "data.train_images": 1000, "method.label_smoothing": 0.0,
    },
    "svhn_paper_supervised_smoothing": {
        "budget.steps": 50_000, "budget.labelled_batch": 128, "optim.teacher.learning_rate": 0.05,
        "model.teacher_dropout": 0.5, "data.labels": 1000, "data.train_images": 1000, "method.label_smoothing": 0.1,
    },
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


@cache
def composed(name: str) -> Config:
    """The settings of an experiment; composing takes Hydra a tenth of a second."""
    return compose(name, root=ROOT)


def leaves(mapping: dict[str, Any], path: str = "") -> list[str]:
    """Dotted keys."""
    return [
        leaf
        for key, value in mapping.items()
        for leaf in (leaves(value, f"{path}{key}.") if isinstance(value, dict) else [f"{path}{key}"])
    ]


def changed(like: str, arm: str) -> set[str]:
    """The settings in which two experiments differ, their recipes aside."""
    base, other = as_mapping(composed(like)), as_mapping(composed(arm))
    for mapping in (base, other):
        del mapping["recipe"]
    keys = {*leaves(base), *leaves(other)}
    return {key for key in keys if lookup(base, key) != lookup(other, key)}


def test_the_papers_mpl_is_that_of_cifar10_but_for_its_own_column() -> None:
    """Every setting that Table 8 gives SVHN's own value has it, and no other setting differs."""
    values = as_mapping(composed(PAPER))

    assert {key: lookup(values, key) for key in PAPER_IS_UNLIKE_CIFAR10} == PAPER_IS_UNLIKE_CIFAR10
    assert changed("cifar10_paper_mpl", PAPER) - DATA - OURS == PAPER_IS_UNLIKE_CIFAR10.keys()


def test_the_papers_data_are_1000_labels_and_the_rest_of_train_and_extra() -> None:
    """About 603,000 unlabelled images; the same for all arms that are compared with MPL."""
    data = composed(PAPER).data
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


@pytest.mark.parametrize(("name", "values"), BASELINES.items(), ids=list(BASELINES))
def test_baselines_are_those_of_the_paper(name: str, values: dict[str, Any]) -> None:
    """The authors' own supervised, Pseudo Labels and UDA rows, on the same network."""
    mapping = as_mapping(composed(name))

    counted = "student" if mapping["method"]["name"] == "pseudo_label" else "teacher"
    shared = {"schedule": "cosine", "momentum": 0.9, "weight_decay": 5e-4}
    assert values == {key: lookup(mapping, key) for key in values}
    assert shared == {key: mapping["optim"][counted][key] for key in shared}
    assert {"depth": 28, "width": 2} == {key: mapping["model"][key] for key in ("depth", "width")}


@pytest.mark.parametrize("name", [PAPER, REGULARISER, "svhn_released_mpl_released", *BASELINES])
def test_a_recipe_s_own_run_departs_from_nothing(name: str) -> None:
    """What is called the paper's recipe, or the released form, has only departures that its source leaves open."""
    assert [] == [departure.key for departure in departures(composed(name)) if not departure.open]


@pytest.mark.parametrize("name", [PAPER, "svhn_released_mpl_released", REGULARISER])
def test_a_recipe_settles_or_names_what_cifar10s_does(name: str) -> None:
    """No setting that CIFAR-10's recipe prescribes or leaves open is silent in SVHN's, but for its split's name."""
    recipe, theirs = composed(name).recipe, composed(name.replace("svhn", "cifar10")).recipe

    spoken, wanted = {*recipe.values, *recipe.open}, {*theirs.values, *theirs.open}
    assert wanted - {"data.split"} | {"data.balanced"} == spoken


@pytest.mark.parametrize(
    ("like", "arm", "differs_in"),
    [
        (PAPER, "svhn_paper_mpl_no_feedback", {"method.feedback"}),
        (PAPER, REGULARISER, {"data.labelled_in_unlabelled", "data.train_images", "method.pseudo_label_view",
                              "method.student_view", "method.uda.weight"}),
        ("svhn_paper_supervised", "svhn_paper_supervised_alone", {"data.labelled_in_unlabelled", "data.train_images"}),
        ("svhn_paper_supervised_alone", "svhn_paper_supervised_smoothing", {"method.label_smoothing"}),
        ("svhn_paper_supervised", "svhn_paper_supervised_all",
         {"data.labelled_in_unlabelled", "data.train_images", "data.labels"}),
        ("svhn_released_mpl", "svhn_released_mpl_no_feedback", {"method.feedback"}),
    ],
)  # fmt: skip
def test_an_arm_switches_only_what_it_names(like: str, arm: str, differs_in: set[str]) -> None:
    """An arm differs from what it is compared with in exactly the settings that it is about."""
    assert {"title"} | differs_in == changed(like, arm)


def test_mpl_as_regulariser_has_no_other_images_and_no_strong_view() -> None:
    """Table 9: unlabelled images are the labelled ones, and nothing is RandAugmented; its rows are its pairs."""
    regulariser = composed(REGULARISER)

    assert isinstance(regulariser.method, Mpl)
    assert {View.weak} == views(regulariser.method)
    for arm in ("alone", "smoothing"):
        assert regulariser.data == composed(f"svhn_paper_supervised_{arm}").data


def test_every_arm_is_in_the_plan() -> None:
    """None is written and forgotten."""
    known = {name for name in experiments(ROOT) if name.startswith("svhn_")}

    assert known == {run.experiment for run in read_plan(ROOT / "plan/svhn_1k.yaml")}
