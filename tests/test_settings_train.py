"""What is accepted trains: values from end to end of their ranges, and every switch beside every other."""

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

from repro.config import Config, read_config
from repro.data.cifar10 import Cifar10
from repro.data.folder import Folder
from repro.data.images import ImageFiles, Listing
from repro.data.svhn import Svhn
from repro.evaluate.predict import Predictor
from repro.settings import ConfigError
from repro.train.kept import late_steps, networks, snapshot_steps
from repro.train.loop import NotFinite, Trainer, finetune
from tests.all_settings import DIGITS, FILES, MOONS, PROBLEMS, all_settings, possible_values, small, with_changes
from tests.folders import listed, prepared, write_folder
from tests.tiny import CPU, METHODS

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
        for source in (Cifar10, Svhn):
            patch.setattr(source, "read", lambda *_: (images, labels))
        yield


def answer(choice: dict[str, str], changes: dict[str, Any]) -> Config | None:
    """The settings, or nothing where they are refused."""
    try:
        return read_config(with_changes(small(choice), changes))
    except ConfigError:
        return None


def train_a_little(config: Config) -> None:
    """The first steps, the last one, finetuning, and predictions; only numbers that overflow may end it early."""
    budget = config.budget
    seeds = [0, 1] if budget.stack > 1 else 0
    trainer = Trainer(config, seeds, CPU)
    assert len(snapshot_steps(budget.steps, budget.snapshots)) <= budget.snapshots
    assert late_steps(budget.steps, budget.late)
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


@pytest.mark.slow
@settings(**PROFILE, max_examples=25)
@given(st.data())
def test_what_is_accepted_trains(data: st.DataObject) -> None:
    """Values from end to end of their ranges, as many together as are accepted, do not fail in a first or last step."""
    # The larger a network, the fewer examples of it: one of WideResNet's takes as long as fifty of the moons'.
    problem = data.draw(st.sampled_from([*2 * [MOONS, DIGITS], *PROBLEMS]))
    choice = {**problem, "method": data.draw(st.sampled_from(list(METHODS)))}
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


@pytest.mark.slow
@pytest.mark.parametrize("problem", [DIGITS, FILES], ids=lambda problem: problem["data"])
def test_every_pair_of_switches_trains(problem: dict[str, str]) -> None:
    """Each value of each enum or boolean beside each of each other: the refused pairs are those listed, no others."""
    choice = {**problem, "method": "mpl"}
    switches = {s.key: possible_values(s) for s in all_settings(choice) if s.is_switch}
    if choice["data"] == "folder":
        switches["budget.probe_feedback"].remove(True)  # for images in memory
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

    assert IMPOSSIBLE | IN_MIXED_PRECISION == refused
