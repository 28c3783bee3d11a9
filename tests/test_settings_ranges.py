"""The range of each number of the schema, typed here once more: a slip in `repro.config.limits` does not go unseen."""

from __future__ import annotations

from typing import Any

import pytest
from repro.config.limits import LIMITS
from repro.config.schema import CHOICES

from repro.config import read_config
from repro.settings import ConfigError
from tests.all_settings import PROBLEMS, Choice, Setting, all_settings, small, with_changes

OUTSIDE: dict[str, tuple[float, float]] = {
    "TwoMoonsData.points": (3, 1000001),
    "TwoMoonsData.labels": (1, 1000001),
    "TwoMoonsData.test_points": (0, 1000001),
    "TwoMoonsData.noise": (-0.1, 10.1),
    "TwoMoonsData.jitter": (-0.1, 10.1),
    "DigitsData.labels": (9, 1798),
    "DigitsData.test_images": (0, 1798),
    "Cifar10Data.labels": (0, 50001),
    "Cifar10Data.train_images": (0, 50001),
    "Cifar10Data.test_images": (0, 10001),
    "SvhnData.labels": (0, 73258),
    "SvhnData.train_images": (0, 604389),
    "SvhnData.test_images": (0, 26033),
    "ImageViews.layers": (0, 101),
    "ImageViews.magnitude": (-0.1, 30.3),
    "ImageViews.lowest_rate": (-0.1, 1.01),
    "ImageViews.highest_rate": (-0.1, 1.01),
    "ImageViews.cutout": (-1, 33),
    "ImageViews.crop_padding": (-1, 32),
    "ImageViews.fill": (-1, 256),
    "FolderData.labels": (-1, 100000001),
    "FolderData.image_size": (7, 1025),
    "FolderData.damaged": (-0.1, 1.01),
    "FolderData.classes": (1, 65537),
    "CropViews.layers": (0, 101),
    "CropViews.magnitude": (-0.1, 30.3),
    "CropViews.lowest_rate": (-0.1, 1.01),
    "CropViews.highest_rate": (-0.1, 1.01),
    "CropViews.cutout_share": (-0.1, 1.01),
    "CropViews.translate_share": (-0.1, 1.01),
    "CropViews.fill": (-1, 256),
    "CropViews.smallest_area": (0.00005, 1.01),
    "CropViews.widest_ratio": (0.99, 10.1),
    "CropViews.evaluated_share": (0.05, 1.01),
    "MoonsNet.width": (0, 4097),
    "MoonsNet.initial_range": (5e-07, 101.0),
    "SmallConv.width": (0, 1025),
    "SmallConv.dropout": (-0.1, 1.0),
    "Airbench.first_width": (23, 1025),
    "Airbench.width": (23, 1025),
    "Airbench.norm_decay": (-0.1, 1.0),
    "Airbench.norm_epsilon": (5e-09, 1.01),
    "Mpl.feedback_share": (0.00005, 101.0),
    "WideResNet.depth": (9, 1001),
    "WideResNet.width": (0, 65),
    "WideResNet.student_dropout": (-0.1, 1.0),
    "WideResNet.teacher_dropout": (-0.1, 1.0),
    "WideResNet.leak": (-0.1, 1.01),
    "WideResNet.norm_decay": (-0.1, 1.0),
    "WideResNet.norm_epsilon": (5e-09, 1.01),
    "ResNet50.width": (0, 1025),
    "ResNet50.student_dropout": (-0.1, 1.0),
    "ResNet50.teacher_dropout": (-0.1, 1.0),
    "ResNet50.norm_decay": (-0.1, 1.0),
    "ResNet50.norm_epsilon": (5e-09, 1.01),
    "Supervised.label_smoothing": (-0.1, 1.0),
    "Supervised.mixup": (0.005, 101.0),
    "SelfTraining.weight": (-0.1, 1010000.0),
    "SelfTraining.threshold": (-0.1, 1.01),
    "SelfTraining.ramp_steps": (-1, 1000000001),
    "PseudoLabelMethod.teacher_steps": (0, 1000000001),
    "PseudoLabelMethod.threshold": (-0.1, 1.01),
    "PseudoLabelMethod.label_smoothing": (-0.1, 1.0),
    "Uda.weight": (-0.1, 1010000.0),
    "Uda.ramp_steps": (-1, 1000000001),
    "Uda.temperature": (0.0005, 1010.0),
    "Uda.threshold": (-0.1, 2.02),
    "Uda.label_smoothing": (-0.1, 1.0),
    "FixMatch.weight": (-0.1, 1010000.0),
    "FixMatch.threshold": (-0.1, 1.01),
    "FixMatch.label_smoothing": (-0.1, 1.0),
    "Mpl.teacher_mixup": (0.005, 101.0),
    "Mpl.feedback_weight": (-0.1, 1010000.0),
    "Mpl.baseline_rate": (-0.1, 1.01),
    "Mpl.student_label_smoothing": (-0.1, 1.0),
    "Mpl.shuffle_window": (0, 1000001),
    "Optimiser.learning_rate": (5e-13, 1010.0),
    "Optimiser.wait_steps": (-1, 1000000001),
    "Optimiser.warmup_steps": (-1, 1000000001),
    "Optimiser.momentum": (-0.1, 1.0),
    "Optimiser.weight_decay": (-0.1, 10.1),
    "Optimiser.clip_norm": (5e-07, 1010000.0),
    "Optim.average_decay": (-0.1, 1.0),
    "Budget.steps": (0, 1000000001),
    "Budget.labelled_batch": (0, 1000001),
    "Budget.unlabelled_batch": (0, 1000001),
    "Budget.log_every": (0, 1000000001),
    "Budget.snapshots": (0, 10001),
    "Budget.stack": (0, 10001),
    "Budget.workers": (0, 257),
    "Budget.max_minutes": (-0.1, 1010000.0),
    "Budget.checkpoint_minutes": (-0.1, 1010000.0),
    "Budget.curve_examples": (-1, 1000001),
    "Budget.shortened_to": (-1, 1000000001),
    "Finetune.steps": (-1, 1000000001),
    "Finetune.learning_rate": (5e-13, 1010.0),
    "Finetune.batch": (0, 1000001),
    "Engine.threads": (0, 257),
    "Engine.readers": (0, 257),
    "Engine.batch_norm_processes": (-1, 65537),
}
"""Below and above what each field of each dataclass may be."""

NUMBERS = {
    (setting.key, setting.owner): (choice, setting)
    for problem in PROBLEMS
    for method in CHOICES["method"]
    for choice in [{**problem, "method": method}]
    for setting in all_settings(choice)
    if setting.is_number
}


@pytest.mark.parametrize("side", [0, 1], ids=["below", "above"])
@pytest.mark.parametrize(("choice", "setting"), NUMBERS.values(), ids=lambda case: getattr(case, "key", ""))
def test_a_number_outside_its_range_is_refused_by_its_whole_key(choice: Choice, setting: Setting, side: int) -> None:
    """Key, value and the range are in the sentence; a field without an entry in the table fails."""
    value: Any = OUTSIDE[f"{setting.owner.__name__}.{setting.field}"][side]

    with pytest.raises(ConfigError) as caught:
        read_config(with_changes(small(choice), {setting.key: value}))

    assert any(
        problem.startswith(f"{setting.key} = {value}: must ") and "lie in [" in problem
        for problem in str(caught.value).split("; ")
    ), caught.value


def test_every_number_has_a_range_and_every_range_a_number() -> None:
    """A field that is added without a rule is noticed, and so is a rule whose field is gone."""
    fields = {f"{setting.owner.__name__}.{setting.field}" for _, setting in NUMBERS.values()}

    assert fields == OUTSIDE.keys()
    assert fields == {f"{owner.__name__}.{field}" for owner, limits in LIMITS.items() for field in limits}
