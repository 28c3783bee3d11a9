"""ImageNet-10%: both recipes against what paper and released code say, line by line, and Figure 3's arms."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from repro.config import Config, as_mapping, departures, lookup
from repro.plan import compose, run_names

ROOT = Path(__file__).parent.parent / "experiments"
PAPER, RELEASED = "imagenet_paper_mpl", "imagenet_released_mpl_released"
ARMS = [name for name in run_names(ROOT) if name.startswith("imagenet_")]

# Typed from the sources: the paper (Tables 5 to 8, Appendix C) and the released code (its README's command, whose rates
# are for 256 labelled images, and the flags' defaults).
TABLE: list[tuple[str, Any, Any]] = [
    ("budget.steps", 500_000, 700_000),
    ("budget.labelled_batch", 2048, 1024),
    ("budget.unlabelled_batch", 2048, 15 * 1024),
    ("optim.student.learning_rate", 0.8, 0.1 * 1024 / 256),
    ("optim.teacher.learning_rate", 0.5, 0.15 * 1024 / 256),
    ("optim.student.schedule", "cosine", "cosine"),
    ("optim.teacher.schedule", "cosine", "cosine"),
    ("optim.student.warmup_steps", 1000, 5000),
    ("optim.teacher.warmup_steps", 1000, 5000),
    ("optim.student.wait_steps", 0, 20_000),
    ("optim.teacher.wait_steps", 0, 0),
    ("optim.student.momentum", 0.9, 0.9),
    ("optim.teacher.momentum", 0.9, 0.9),
    ("optim.student.weight_decay", 2e-4, 1e-4),
    ("optim.teacher.weight_decay", 2e-4, 1e-4),
    ("optim.student.clip_norm", 0.0, 5.0),
    ("optim.teacher.clip_norm", 0.0, 5.0),
    ("optim.average_decay", 0.0, 0.999),
    ("method.uda.label_smoothing", 0.1, 0.1),
    ("method.student_label_smoothing", 0.1, 0.1),
    ("method.uda.weight", 16.0, 20.0),
    ("method.uda.ramp_steps", 0, 50_000),
    ("method.uda.temperature", 0.75, 0.5),
    ("method.uda.threshold", 0.0, 0.6),
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
    ("model.name", "resnet50", "resnet50"),
    ("model.width", 64, 64),
    ("model.student_dropout", 0.1, 0.1),
    ("model.teacher_dropout", 0.1, 0.1),
    ("model.norm_decay", 0.99, 0.99),
    ("model.norm_epsilon", 1e-3, 1e-3),
    ("data.labelled", "imagenet_10percent", "imagenet_10percent"),
    ("data.labelled_in_unlabelled", True, True),
    ("data.image_size", 224, 224),
    ("data.classes", 1000, 1000),
    ("data.views.operations", "paper", "released"),
    ("data.views.arithmetic", "standard", "released"),
    ("data.views.layers", 2, 2),
    ("data.views.magnitude", 17.0, 17.0),
    ("data.views.cutout_share", 40 / 224, 40 / 224),
    ("data.views.translate_share", 100 / 224, 100 / 224),
    ("data.views.smallest_area", 0.08, 0.08),
    ("data.views.widest_ratio", 4 / 3, 4 / 3),
    ("data.views.evaluated_share", 224 / 256, 224 / 256),
    ("finetune.steps", 2000, 0),
    ("engine.precision", "bfloat16", "bfloat16"),
]


@cache
def composed(name: str) -> Config:
    """The settings of a run."""
    return compose(name, root=ROOT)


@pytest.mark.parametrize(("key", "paper", "released"), TABLE, ids=[key for key, *_ in TABLE])
def test_recipes_are_those_of_the_sources(key: str, paper: Any, released: Any) -> None:
    """Both composed configurations hold the value that their source gives, and their recipes settle or name the key."""
    configs = [composed(name) for name in (PAPER, RELEASED)]

    assert [paper, released] == [lookup(as_mapping(config), key) for config in configs]
    for config in configs:
        assert key in config.recipe.values.keys() | config.recipe.open.keys()


def test_the_paper_finetunes_512_images_at_a_time() -> None:
    """2,000 steps at 1e-5; the released code has no finetuning."""
    assert (2000, 1e-5, 512) == tuple(vars(composed(PAPER).finetune).values())


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_departs_from_nothing_that_its_source_settles(name: str) -> None:
    """All that a run does otherwise is something that its recipe names as open."""
    assert [] == [departure.key for departure in departures(composed(name)) if not departure.open]


@pytest.mark.parametrize(
    ("arm", "like", "differs_in"),
    [
        ("supervised_mpl", "mpl", {"method.uda.weight", "method.pseudo_label_view", "method.student_view"}),
        ("randaugment", "supervised", {"method.labelled_view"}),
    ],
)
def test_figure_3_changes_one_thing_at_a_time(arm: str, like: str, differs_in: set[str]) -> None:
    """Two arms differ in what the step between them is named for; all arms have the same data."""
    one, other = (as_mapping(composed(f"imagenet_paper_{name}")) for name in (like, arm))

    assert {"title"} | differs_in == {key for key in _leaves(one, "") if lookup(one, key) != lookup(other, key)}
    assert one["data"] == as_mapping(composed("imagenet_paper_uda"))["data"]


def _leaves(mapping: dict[str, Any], path: str) -> list[str]:
    """Dotted keys of all settings, those of the recipe aside."""
    return [
        leaf
        for key, value in mapping.items()
        if key != "recipe"
        for leaf in (_leaves(value, f"{path}{key}.") if isinstance(value, dict) else [f"{path}{key}"])
    ]
