"""SVHN's recipes against what paper and released code say, line by line, and its runs against their recipes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.recipe_cases import changed, composed, departing, values

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
OURS = {"budget.curve_examples"}


def test_the_papers_mpl_is_that_of_cifar10_but_for_its_own_column() -> None:
    """Every setting that Table 8 gives SVHN's own value has it, and no other setting differs."""
    assert PAPER_IS_UNLIKE_CIFAR10 == values(PAPER, PAPER_IS_UNLIKE_CIFAR10)
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


@pytest.mark.parametrize("name", [PAPER, REGULARISER, "svhn_released_mpl_released"])
def test_a_recipe_s_own_run_departs_from_nothing(name: str) -> None:
    """What is called the paper's recipe, or the released form, has only departures that its source leaves open."""
    assert [] == departing(composed(name))


@pytest.mark.parametrize("name", [PAPER, "svhn_released_mpl_released", REGULARISER])
def test_a_recipe_settles_or_names_what_cifar10s_does(name: str) -> None:
    """No setting that CIFAR-10's recipe prescribes or leaves open is silent in SVHN's, but for its split's name."""
    recipe, theirs = composed(name).recipe, composed(name.replace("svhn", "cifar10")).recipe

    spoken, wanted = {*recipe.values, *recipe.open}, {*theirs.values, *theirs.open}
    assert wanted - {"data.split"} | {"data.balanced"} == spoken
