"""A run's settings: everything wrong is refused by key, value and remedy; what is right comes back as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from repro.config import Config, as_mapping, departures, read_config, read_config_file
from repro.settings import ConfigError
from tests.all_settings import EVERY, IMAGES, Choice, Setting, odd_values, small, with_changes
from tests.tiny import METHODS, settings


def changed(data: str = "two_moons", method: str = "mpl", /, **changes: Any) -> dict[str, Any]:
    """A valid mapping with dotted keys replaced, __ for the dot; None deletes."""
    mapping = as_mapping(settings(data, METHODS[method]))
    for key, value in changes.items():
        *path, last = key.split("__")
        part = mapping
        for name in path:
            part = part[name]
        if value is None:
            del part[last]
        else:
            part[last] = value
    return mapping


@pytest.mark.parametrize("data", ["two_moons", "digits"])
@pytest.mark.parametrize("method", METHODS)
def test_mappings_round_trip(data: str, method: str) -> None:
    """A configuration, its mapping, and the mapping through YAML are one and the same."""
    config = settings(data, METHODS[method])
    mapping = as_mapping(config)

    assert config == read_config(mapping)
    assert mapping == yaml.safe_load(yaml.safe_dump(mapping))
    assert read_config(changed(data__noise=0.0)) == read_config(changed(data__noise=0))  # a whole number is a number


def test_settings_that_are_no_more_may_stand_in_a_record() -> None:
    """With the value that all records have; any other would have been another training, and is refused."""
    old = changed(engine__recompute=False, engine__micro_batches=1, engine__side_by_side=1)

    assert read_config(changed()) == read_config(old)
    with pytest.raises(ConfigError, match=r"engine\.micro_batches is not a setting"):
        read_config(changed(engine__micro_batches=2))


@pytest.mark.parametrize(("changes", "message"), [
    ({"optim__student__learning_rte": 0.1}, "learning_rte is not a setting; did you mean 'learning_rate'"),
    ({"method__uda__wieght": 1.0}, "method.uda.wieght is not a setting; did you mean 'weight'"),
    ({"zzz": 1}, "zzz is not a setting; known: budget, data,"),
    ({"data__name": "two_mons"}, "data.name = 'two_mons' is unknown; did you mean 'two_moons'"),
    ({"method": {}}, "method.name = None is unknown; known: fixmatch, mpl,"),
    ({"method__feedback": "dot_prodct"}, "method.feedback = 'dot_prodct' is unknown; did you mean 'dot"),
    ({"optim__student__learning_rate": "1e-5"}, r"wants a number, not text \(YAML reads 1e-5 as text: write 1.0e-5\)"),
    ({"budget__steps": 10.0}, "budget.steps = 10.0: wants a whole number, not a number"),
    ({"method__teacher_supervised": 1}, "teacher_supervised = 1: wants true or false, not a whole number"),
    ({"title": 3}, "title = 3: wants text, not a whole number"),
    ({"optim": 3}, "optim = 3: wants a mapping of settings"),
    ({"budget": None}, "budget is missing; add it"),
])  # fmt: skip
def test_what_cannot_be_read_is_refused(changes: dict[str, Any], message: str) -> None:
    """A misspelt key, an unknown choice or a wrong type is refused with its key, its value and the remedy."""
    with pytest.raises(ConfigError, match=message):
        read_config(changed(**changes))


def test_a_file_must_hold_a_mapping(tmp_path: Path) -> None:
    """A missing file names the command that writes it; an empty one is refused."""
    with pytest.raises(ConfigError, match=r"write it with: repro prepare"):
        read_config_file(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(ConfigError, match="configuration = None: wants a mapping"):
        read_config_file(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(changed()))
    assert settings("two_moons", METHODS["mpl"]) == read_config_file(tmp_path / "config.yaml")


@pytest.mark.parametrize(("start", "changes", "message"), [
    (("two_moons", "mpl"), {"data__noise": float("nan")}, r"data.noise = nan: must lie in \[0, 10\]"),
    (("two_moons", "mpl"), {"optim__teacher__learning_rate": float("inf")}, "rate = inf: must lie in"),
    (("two_moons", "mpl"), {"data__points": 61}, "data.points = 61, data.labels = 6: both are split evenly"),
    (("two_moons", "mpl"), {"data__labels": 7}, "data.points = 60, data.labels = 7: both are split evenly"),
    (("two_moons", "mpl"), {"data__labels": 60}, "data.labels = 60: leaves none of data.points = 60"),
    (("digits", "mpl"), {"data__labels": 25}, "data.labels = 25: must be a multiple of the 10 classes"),
    (("digits", "mpl"), {"data__test_images": 1690}, "data.labels . data.test_images = 1710: leaves fewer than 97"),
    (("digits", "mpl"), {"model": {"name": "moons_net"}}, "model.name = moons_net does not fit data.name = digits"),
    (("two_moons", "mpl"), {"model": {"name": "small_conv"}}, "model.name = small_conv does not fit"),
    (("digits", "mpl"), {"budget__stack": 2}, "budget.stack = 2: model.name = small_conv cannot be stacked; set it"),
    (("two_moons", "mpl"), {"budget__labelled_batch": 7}, "budget.labelled_batch = 7: there are only data.labels = 6"),
    (("two_moons", "mpl"), {"finetune__steps": 1, "finetune__batch": 7}, "finetune.batch = 7: there are only"),
    (("two_moons", "pseudo_label"), {"method__teacher_steps": 20}, "teacher_steps = 20: leaves the student none of"),
    (("two_moons", "mpl"), {"optim__student__wait_steps": 11, "optim__student__warmup_steps": 9},
     r"optim.student.wait_steps \+ optim.student.warmup_steps = 20: leaves none of budget.steps = 20"),
    (("two_moons", "mpl"), {"optim__teacher__warmup_steps": 20}, "optim.teacher.wait_steps"),
    (("two_moons", "mpl"), {"method__pseudo_label": "soft", "method__feedback_scope": "example"}, "use method.feed"),
    (("two_moons", "mpl"), {"method__feedback": "exact"}, "wants method.pseudo_label = soft, not sampled"),
    (("two_moons", "mpl"), {"method__feedback": "cosine", "method__feedback_scope": "example"},
     "method.feedback = cosine: has no value for each example"),
])  # fmt: skip
def test_impossible_values_are_refused(start: tuple[str, str], changes: dict[str, Any], message: str) -> None:
    """Each rule refuses what breaks it, naming key, value and remedy."""
    with pytest.raises(ConfigError, match=message):
        read_config(changed(*start, **changes))


@pytest.mark.parametrize(("start", "changes"), [
    (("two_moons", "uda"), {"method__threshold": 1.01}),
    (("two_moons", "mpl"), {"finetune__steps": 0, "finetune__batch": 99}),
    (("two_moons", "mpl"), {"method__feedback": "exact", "method__pseudo_label": "soft"}),
    (("two_moons", "mpl"), {"method__pseudo_label": "soft"}),
    (("two_moons", "mpl"), {"method__feedback": "none", "method__feedback_scope": "example"}),
    (("two_moons", "mpl"), {"budget__stack": 50, "budget__unlabelled_batch": 999, "method__baseline_rate": 1.0}),
    (("two_moons", "fixmatch"), {"method__threshold": 1.0}),
    (("two_moons", "pseudo_label"), {"method__teacher_steps": 10, "optim__student__wait_steps": 9}),
])  # fmt: skip
def test_possible_values_are_taken(start: tuple[str, str], changes: dict[str, Any]) -> None:
    """The rules leave their limits, and what an arm of a comparison needs, alone."""
    assert isinstance(read_config(changed(*start, **changes)), Config)


def test_all_problems_are_told_at_once() -> None:
    """Two mistakes are both named."""
    with pytest.raises(ConfigError, match=r"data.noise = -1.0.*; .*budget.log_every = 0"):
        read_config(changed(data__noise=-1.0, budget__log_every=0))


def test_departures_are_what_differs() -> None:
    """Settings that differ are listed with both values, then open ones; equal and inapplicable ones are not."""
    recipe = {
        "name": "paper",
        "values": {"data.points": 2000, "data.labels": 6, "method.threshold": 0.95, "method.feedback": "dot_product"},
        "open": {"data.noise": "not given", "method.threshold": "not given"},
    }
    found = departures(read_config(changed(recipe=recipe, budget__reduced="fewer steps")))

    assert [("data.points", "2000", "60", False), ("budget", "as the recipe", "fewer steps", False),
            ("data.noise", "not given", "0.1", True)] == [tuple(vars(d).values()) for d in found]  # fmt: skip
    assert [] == departures(settings("two_moons", METHODS["mpl"]))


@pytest.mark.parametrize("part", ["values", "open"])
@pytest.mark.parametrize("key", ["optim.studnet.learning_rate", "data.pints", "data.points.more"])
def test_misspelt_recipe_keys_are_refused(part: str, key: str) -> None:
    """A recipe's key that no run has cannot pass for a setting that this run lacks."""
    with pytest.raises(ConfigError, match=key):
        departures(read_config(changed(recipe={"name": "paper", part: {key: "x"}})))


def test_a_word_that_is_none_of_a_few_is_refused_with_the_nearest() -> None:
    """Of the words that its setting takes, not of the names that a section goes by."""
    with pytest.raises(ConfigError, match=r"^model\.library = 'tim' is unknown; did you mean 'timm'"):
        read_config(changed("digits", model={"name": "pretrained", "library": "tim"}))


# Every setting there is


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
