"""Numbers outside their range and odd values anywhere are refused by key."""

from __future__ import annotations

from typing import Any

import pytest

from repro.config import Config, as_mapping, read_config
from repro.settings import ConfigError
from tests.all_settings import EVERY, IMAGES, Choice, Setting, odd_values, small, with_changes

NUMBERS = {key: case for key, case in EVERY.items() if case[1].range}


@pytest.mark.parametrize(("choice", "setting"), NUMBERS.values(), ids=lambda case: getattr(case, "key", ""))
def test_a_number_outside_its_range_is_refused_by_its_whole_key(choice: Choice, setting: Setting) -> None:
    """Key, value and the range are in the sentence."""
    least, most, kind = setting.range.least, setting.range.most, setting.kind
    below = (least / 2 if least > 0 and kind is float else least - 1) if least != 1 or kind is int else 0.99
    outside = [kind(below), kind(most) if setting.range.below else kind(most + 1)]
    for value in outside[setting.range.or_zero and outside[0] == 0 :]:
        with pytest.raises(ConfigError) as caught:
            read_config(with_changes(small(choice), {setting.key: value}))

        wanted = f"{setting.key} = {value}: must {'be 0 or ' * setting.range.or_zero}lie in ["
        assert [wanted] == [one[: len(wanted)] for one in str(caught.value).split("; ") if one.startswith(wanted)]


@pytest.mark.parametrize(("key", "impossible"), [
    ("optim.student.momentum", 1.0), ("optim.average_decay", 1.0), ("optim.student.learning_rate", 0.0),
    ("optim.student.weight_decay", -1e-9), ("model.teacher_dropout", 1.0), ("model.norm_decay", 1.0),
    ("model.norm_epsilon", 0.0), ("method.uda.label_smoothing", 1.0), ("method.uda.temperature", 0.0),
    ("method.baseline_rate", 1.01), ("method.teacher_pseudo_label.threshold", 1.01), ("data.labels", 50_001),
    ("data.test_images", 10_001), ("data.views.lowest_rate", 1.01), ("data.views.cutout", 33), ("data.views.fill", 256),
])  # fmt: skip
def test_what_has_no_meaning_is_outside_the_range(key: str, impossible: float) -> None:
    """Shares, rates and counts beyond what they are of, by hand and not from the range itself."""
    with pytest.raises(ConfigError, match=rf"{key} = {impossible}: must lie in"):
        read_config(with_changes(small({**IMAGES, "method": "mpl"}), {key: impossible}))


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
