"""The range of each number, typed here once more so that a slip shows; and odd values anywhere are refused by key."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from repro.config import Config, as_mapping, read_config
from repro.settings import ConfigError
from tests.all_settings import CHOSEN, EVERY, Choice, Setting, all_settings, odd_values, small, with_changes

RANGES: dict[str, dict[str, str]] = {
    "TwoMoonsData": {
        "points": "[4, 1,000,000]", "labels": "[2, 1,000,000]", "test_points": "[1, 1,000,000]", "noise": "[0, 10]",
        "jitter": "[0, 10]",
    },
    "MoonsNet": {"width": "[1, 4,096]", "initial_range": "[1e-06, 100]"},
    "Supervised": {"label_smoothing": "[0, 1)", "mixup": "0 or [0.01, 100]"},
    "Optimiser": {
        "learning_rate": "[1e-12, 1,000]", "wait_steps": "[0, 1,000,000,000]", "warmup_steps": "[0, 1,000,000,000]",
        "momentum": "[0, 1)", "weight_decay": "[0, 10]", "clip_norm": "0 or [1e-06, 1,000,000]",
    },
    "Optim": {"average_decay": "[0, 1)"},
    "Budget": {
        "steps": "[1, 1,000,000,000]", "labelled_batch": "[1, 1,000,000]", "unlabelled_batch": "[1, 1,000,000]",
        "log_every": "[1, 1,000,000,000]", "snapshots": "[1, 10,000]", "stack": "[1, 10,000]", "workers": "[1, 256]",
        "max_minutes": "[0, 1,000,000]", "checkpoint_minutes": "[0, 1,000,000]", "curve_examples": "[0, 1,000,000]",
        "shortened_to": "[0, 1,000,000,000]",
    },
    "Finetune": {"steps": "[0, 1,000,000,000]", "learning_rate": "[1e-12, 1,000]", "batch": "[1, 1,000,000]"},
    "Engine": {"threads": "[1, 256]", "readers": "[1, 256]", "batch_norm_processes": "[0, 65,536]"},
    "PseudoLabelMethod": {"teacher_steps": "[1, 1,000,000,000]", "threshold": "[0, 1]", "label_smoothing": "[0, 1)"},
    "Uda": {
        "weight": "[0, 1,000,000]", "ramp_steps": "[0, 1,000,000,000]", "temperature": "[0.001, 1,000]",
        "threshold": "[0, 2]", "label_smoothing": "[0, 1)",
    },
    "FixMatch": {"weight": "[0, 1,000,000]", "threshold": "[0, 1]", "label_smoothing": "[0, 1)"},
    "Mpl": {
        "feedback_weight": "[0, 1,000,000]", "feedback_share": "0 or [0.0001, 100]", "baseline_rate": "[0, 1]",
        "teacher_mixup": "0 or [0.01, 100]", "student_label_smoothing": "[0, 1)", "shuffle_window": "[1, 1,000,000]",
    },
    "SelfTraining": {"weight": "[0, 1,000,000]", "threshold": "[0, 1]", "ramp_steps": "[0, 1,000,000,000]"},
    "DigitsData": {"labels": "[10, 1,797]", "test_images": "[1, 1,797]"},
    "SmallConv": {"width": "[1, 1,024]", "dropout": "[0, 1)"},
    "Cifar10Data": {"labels": "[1, 50,000]", "train_images": "[1, 50,000]", "test_images": "[1, 10,000]"},
    "ImageViews": {
        "layers": "[1, 100]", "magnitude": "[0, 30]", "lowest_rate": "[0, 1]", "highest_rate": "[0, 1]",
        "cutout": "[0, 32]", "crop_padding": "[0, 31]", "fill": "[0, 255]",
    },
    "WideResNet": {
        "depth": "[10, 1,000]", "width": "[1, 64]", "student_dropout": "[0, 1)", "teacher_dropout": "[0, 1)",
        "leak": "[0, 1]", "norm_decay": "[0, 1)", "norm_epsilon": "[1e-08, 1]",
    },
    "Airbench": {
        "first_width": "[24, 1,024]", "width": "[24, 1,024]", "norm_decay": "[0, 1)", "norm_epsilon": "[1e-08, 1]",
    },
    "Plant": {"steps": "[0, 1,000,000,000]", "share": "[0, 1]"},
    "ResNet50": {
        "width": "[1, 1,024]", "student_dropout": "[0, 1)", "teacher_dropout": "[0, 1)", "norm_decay": "[0, 1)",
        "norm_epsilon": "[1e-08, 1]",
    },
    "SvhnData": {"labels": "[1, 73,257]", "train_images": "[1, 604,388]", "test_images": "[1, 26,032]"},
    "FolderData": {
        "labels": "[0, 100,000,000]", "image_size": "[8, 1,024]", "damaged": "[0, 1]", "classes": "0 or [2, 65,536]",
    },
    "CropViews": {
        "layers": "[1, 100]", "magnitude": "[0, 30]", "lowest_rate": "[0, 1]", "highest_rate": "[0, 1]",
        "cutout_share": "[0, 1]", "translate_share": "[0, 1]", "fill": "[0, 255]", "smallest_area": "[0.0001, 1]",
        "widest_ratio": "[1, 10]", "evaluated_share": "[0.1, 1]",
    },
}  # fmt: skip
"""What each field of each class may be."""

NUMBERS = {key: case for key, case in EVERY.items() if case[1].range}


@pytest.mark.parametrize(("choice", "setting"), NUMBERS.values(), ids=lambda case: getattr(case, "key", ""))
def test_a_number_outside_its_range_is_refused_by_its_whole_key(choice: Choice, setting: Setting) -> None:
    """Key, value and the range are in the sentence; a field without an entry in the table fails."""
    assert setting.range
    least, most, kind = setting.range.least, setting.range.most, setting.kind
    below = (least / 2 if least > 0 and kind is float else least - 1) if least != 1 or kind is int else 0.99
    outside = [kind(below), kind(most) if setting.range.below else kind(most + 1)]
    for value in outside[setting.range.or_zero and outside[0] == 0 :]:
        with pytest.raises(ConfigError) as caught:
            read_config(with_changes(small(choice), {setting.key: value}))

        text = RANGES[setting.owner.__name__][setting.field]
        wanted = f"{setting.key} = {value}: must {'be ' * text.startswith('0 or ')}{text.replace('[', 'lie in [')}"
        assert [wanted] == [one[: len(wanted)] for one in str(caught.value).split("; ") if one.startswith(wanted)]


def test_every_range_in_the_table_is_that_of_a_number() -> None:
    """A field that is gone leaves no row behind."""
    fields = {(setting.owner.__name__, setting.field) for _, setting in NUMBERS.values()}

    assert fields == {(owner, field) for owner, ranges in RANGES.items() for field in ranges}


def answer(choice: Choice, changes: dict[str, Any]) -> Config | None:
    """The settings, or nothing where they are refused by the key of a change."""
    try:
        config = read_config(with_changes(small(choice), changes))
    except ConfigError as error:
        message = str(error)
    else:
        assert config == read_config(as_mapping(config))
        return config
    assert any(key in message for key in changes), message
    assert "\n" not in message
    return None


@pytest.mark.parametrize(("choice", "setting"), EVERY.values(), ids=lambda case: getattr(case, "key", ""))
def test_whatever_stands_at_a_key_is_taken_or_refused_by_name(choice: Choice, setting: Setting) -> None:
    """Wrong types, ends of ranges, overflow and NaN lead to a configuration or a sentence with the key."""
    taken = [value for value in odd_values(setting) if answer(choice, {setting.key: value})]

    assert len(taken) < len(odd_values(setting))


@settings(derandomize=True, deadline=None, database=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_several_odd_values_are_refused_by_name(data: st.DataObject) -> None:
    """Of three changes at once the refusal names at least one."""
    choice = data.draw(st.sampled_from(CHOSEN))
    chosen = data.draw(st.lists(st.sampled_from(list(all_settings(choice))), min_size=3, max_size=3))
    answer(choice, {setting.key: data.draw(st.sampled_from(odd_values(setting))) for setting in chosen})
