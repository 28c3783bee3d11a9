"""All settings at once: each mapping is refused with the key named, or it trains."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from repro.config.schema import CHOICES

from repro.config import Config, as_mapping, read_config
from repro.data.cifar10 import Cifar10
from repro.data.folder import Folder
from repro.data.images import ImageFiles, Listing
from repro.data.svhn import Svhn
from repro.evaluate.predict import Predictor
from repro.settings import ConfigError
from repro.train.kept import late_steps, networks, snapshot_steps
from repro.train.loop import Trainer, finetune
from repro.train.metrics import NotFinite
from tests.all_settings import (
    DEEP_IMAGES,
    DIGITS,
    FILES,
    IMAGES,
    MOONS,
    PROBLEMS,
    SVHN,
    Choice,
    Setting,
    all_settings,
    odd_values,
    possible_values,
    small,
    with_changes,
)
from tests.folders import listed, prepared, write_folder
from tests.tiny import CPU

PROFILE = {"derandomize": True, "deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


@pytest.fixture(scope="module", autouse=True)
def _synthetic_images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Noise stands in for CIFAR-10 and SVHN, a folder of small pictures for any other, so these tests need no data."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (5200, 3, 32, 32), generator=generator, dtype=torch.uint8)
    place = tmp_path_factory.mktemp("folder")
    root = write_folder(place / "images", {"cat": 40, "dog": 40, "unlabelled": 20})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        listing = listed(prepared(root))
        elsewhere = partial(ImageFiles, root, listing.paths, listing.sides, listing.digests)
        patch.setattr(Listing, "files", lambda _, __, size, views: elsewhere(size, views))
        patch.setattr(Folder, "_listing", lambda _: listing)
        labels = torch.arange(len(images)) % Cifar10.classes
        patch.setattr(Cifar10, "read", lambda *_: (images, labels))
        patch.setattr(
            Svhn, "_load", lambda s: tuple(all_[: s.config.train_images].clone() for all_ in (images, labels))
        )
        yield


def train_a_little(config: Config) -> None:
    """The first steps, the last one, finetuning, and predictions; only numbers that overflow may end it early."""
    budget = config.budget
    seeds = [0, 1] if budget.stack > 1 else 0
    trainer = Trainer(config, seeds, CPU)
    assert snapshot_steps(budget.steps, budget.snapshots)
    assert late_steps(budget.steps)
    try:
        for step in sorted({0, budget.steps - 1}):
            trainer.state.step = step
            trainer.advance()
    except NotFinite:
        return
    weights = networks(trainer.state)
    if config.finetune.steps:
        weights["finetuned"] = finetune(trainer)
    predictor = Predictor(config, seeds)
    examples = trainer.data.labelled
    for network in weights.values():
        assert predictor.classes(network, examples).shape[-1] == trainer.data.labels.shape[-1]


CHOSEN = [{**problem, "method": method} for problem in PROBLEMS for method in CHOICES["method"]]
EVERY = {(setting.key, setting.owner): (choice, setting) for choice in CHOSEN for setting in all_settings(choice)}
"""Each setting of the schema once, with a choice of data, network and method that has it."""


def name(case: object) -> str:
    """For the test's name: data, network and method."""
    return "-".join(case.values()) if isinstance(case, dict) else str(case)


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


@settings(**PROFILE, max_examples=300)
@given(st.data())
def test_several_odd_values_are_refused_by_name(data: st.DataObject) -> None:
    """Of three changes at once the refusal names at least one."""
    choice = data.draw(st.sampled_from(CHOSEN))
    everything = list(all_settings(choice))
    chosen = [everything[data.draw(st.integers(0, len(everything) - 1))] for _ in range(3)]
    answer(choice, {setting.key: data.draw(st.sampled_from(odd_values(setting))) for setting in chosen})


@pytest.mark.slow
@settings(**PROFILE, max_examples=120)
@given(st.data())
def test_what_is_accepted_trains(data: st.DataObject) -> None:
    """Values from end to end of their ranges, as many together as are accepted, do not fail in a first or last step."""
    # The larger a network, the fewer examples of it: one of WideResNet's takes as long as fifty of the moons'.
    problem = data.draw(st.sampled_from([*3 * [MOONS], *3 * [DIGITS], IMAGES, DEEP_IMAGES, SVHN, FILES]))
    choice = {**problem, "method": data.draw(st.sampled_from(list(CHOICES["method"])))}
    values = {s.key: possible_values(s) for s in all_settings(choice) if s.has_values}
    changes: dict[str, Any] = {}
    for key in data.draw(st.lists(st.sampled_from(list(values)), max_size=10, unique=True)):
        more = changes | {key: data.draw(st.sampled_from(values[key]))}
        changes = more if answer(choice, more) else changes
    train_a_little(read_config(with_changes(small(choice), changes)))


IMPOSSIBLE = {
    *((("method.feedback", "exact"), ("method.pseudo_label", label)) for label in ("sampled", "argmax")),
    *((("method.feedback", form), ("method.feedback_scope", "example"))
      for form in ("exact", "cosine", "finite_difference", "shuffled")),
    (("method.feedback_scope", "example"), ("method.pseudo_label", "soft")),
}  # fmt: skip
"""The only pairs of switches that are refused, each key before the other in the alphabet."""
IN_MIXED_PRECISION = {(("engine.precision", "bfloat16"), ("method.feedback", "exact"))}
"""One more, for networks with convolutions."""
DEEP = {("resnet50", method) for method in ("supervised", "uda", "mpl")}
"""What is tried on the larger network: one method without unlabelled images, one network with them, and two."""
COMPUTED_AGAIN = {(("engine.recompute", True), ("method.feedback", "exact"))}
"""One more, for networks with residual blocks; others have nothing to compute again, whatever stands beside it."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "choice",
    [
        c
        for c in CHOSEN
        if c["model"] in {"moons_net", "small_conv"}
        or ((c["model"], c["method"]) in DEEP and c["data"] != "folder")
        or (c["data"], c["method"]) == ("folder", "mpl")
    ],
    ids=name,
)
def test_every_pair_of_switches_trains(choice: Choice) -> None:
    """Each value of each enum or boolean beside each of each other: the refused pairs are those listed, no others."""
    switches = {s.key: possible_values(s) for s in all_settings(choice) if s.is_switch}
    if choice["model"] != "resnet50":
        switches["engine.recompute"].remove(True)
    if choice["data"] == "folder" or choice["method"] in {"pseudo_label", "reduced_mpl"}:
        switches["engine.cuda_graph"].remove(True)
    sides = sorted((key, value) for key, values in switches.items() for value in values)
    waiting = [pair for pair in itertools.combinations(sides, 2) if pair[0][0] != pair[1][0]]
    refused, seen, random = set(), set(), Random(0)  # noqa: S311 - no secret
    for pair in waiting:
        if pair in seen:
            continue
        for _ in range(500):  # one in 24 rows with exact feedback is possible
            row = {key: random.choice(values) for key, values in switches.items()} | dict(pair)
            config = answer(choice, row)
            if config:
                train_a_little(config)
                seen |= set(itertools.combinations(sorted(row.items()), 2))
                break
        else:
            refused.add(pair)

    place = {"mpl": "method", "reduced_mpl": "method.mpl"}.get(choice["method"])
    impossible = IMPOSSIBLE if place else set()
    mixed = IN_MIXED_PRECISION if place and choice["data"] != "two_moons" else set()
    again = COMPUTED_AGAIN if place and choice["model"] == "resnet50" else set()
    every = impossible | mixed | again
    expected = {tuple((key.replace("method", place or "", 1), v) for key, v in pair) for pair in every}
    assert expected == refused


@pytest.mark.slow
def test_all_forms_of_meta_pseudo_labels_train() -> None:
    """Every combination of the method's switches, not only every pair, takes a step on the two moons."""
    choice = {**MOONS, "method": "mpl"}
    switches = {s.key: possible_values(s) for s in all_settings(choice) if s.is_switch and s.key.startswith("method.")}
    trained = 0
    for row in itertools.product(*switches.values()):
        changes = dict(zip(switches, row, strict=True))
        config = answer(choice, changes)
        assert (config is None) == any(set(pair) <= changes.items() for pair in IMPOSSIBLE)
        if config:
            Trainer(config, 0, CPU).advance()
            trained += 1

    assert trained == 2560
