"""Every file in experiments/ is used, composes, and says what it is."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from repro.config import as_mapping, departures, read_config
from repro.plan import all_arms, comparisons, compose, compose_planned, plan_names, read_plan, run_names
from repro.settings import Budget, Engine, Finetune, Optim, Optimiser
from repro.verify.claims import read_claims
from tests.all_settings import CHOICES

ROOT = Path(__file__).parent.parent / "experiments"
PLANS = sorted((ROOT / "plan").glob("*.yaml"))


@pytest.mark.parametrize("name", run_names(ROOT))
def test_every_run_composes(name: str) -> None:
    """Its settings are possible, and reading them back gives the same settings; moons as stated depart from nothing."""
    config = compose(name, root=ROOT)

    assert config == read_config(yaml.safe_load(yaml.safe_dump(as_mapping(config))))
    assert config.title
    if name.startswith("moons_stated"):
        assert [departure.key for departure in departures(config) if not departure.open] == []


def test_arms_of_one_setting_have_titles_of_their_own() -> None:
    """No two arms that share a table have the same title; a reference and its regions are arms."""
    for comparison in comparisons(ROOT).values():
        titles = [comparison.title(arm) for arm in comparison.arms]
        assert len(set(titles)) == len(titles), comparison.setting
        assert {*comparison.regions, comparison.reference} - {""} <= comparison.arms.keys(), comparison.setting


def test_every_arm_is_used() -> None:
    """No row of the table stands for nothing."""
    used = {arm for comparison in comparisons(ROOT).values() for arm in comparison.arms}

    assert used == all_arms(ROOT).keys()


def test_no_two_runs_or_plans_have_the_same_name() -> None:
    """A setting's name may begin with another's, but what follows is never an arm of both; `run` takes plans too."""
    names = [*run_names(ROOT), *plan_names(ROOT)]

    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("group", "choice"), [(g, c) for g, choices in CHOICES.items() for c in choices])
def test_a_class_of_settings_is_a_choice_without_a_file(group: str, choice: str) -> None:
    """Its defaults stand in the class alone; Hydra would take a file of the same name for another kind of the same."""
    assert not (ROOT / group / f"{choice}.yaml").exists()


@pytest.mark.parametrize("part", [Budget, Engine, Finetune, Optim, Optimiser])
def test_every_setting_can_be_given_on_a_command_line(part: Any) -> None:
    """Hydra takes overrides of what stands in the first of its files alone."""
    known = yaml.safe_load((ROOT / "config.yaml").read_text())
    there = known["optim"]["student"] if part is Optimiser else known[part.__name__.lower()]

    assert part.__pydantic_fields__.keys() == there.keys()


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_every_plan_names_runs_that_compose(path: Path) -> None:
    """A plan fails before its first run, not in the middle of the night; runs as they are compose in a test above."""
    names = set(run_names(ROOT))
    for planned in read_plan(path).runs:
        assert planned.name in names
        if planned.overrides:
            compose_planned(planned, path)
    assert plan_names(ROOT)[path.stem]


def test_claims_speak_of_runs_that_a_plan_has() -> None:
    """No claim waits for a run that nothing makes."""
    planned = {run.name for path in PLANS for run in read_plan(path).runs}
    claims = read_claims(ROOT / "claims.yaml")

    assert [] == [(claim.id, run) for claim in claims for run in claim.runs if run not in planned]


@pytest.mark.parametrize(("plans", "setting", "but"), [
    (("cross_examination", "cifar10_4k"), ("cifar10_paper", "cifar10_released"),
     {"cifar10_released_mpl_no_average"}),  # repeats networks that another arm's record has
    (("svhn_1k",), ("svhn_paper", "svhn_released"), set()),
    (("imagenet_10pct",), ("imagenet_paper", "imagenet_released"), set()),
])  # fmt: skip
def test_every_arm_of_a_recipe_is_in_a_plan(plans: tuple[str, ...], setting: tuple[str, ...], but: set[str]) -> None:
    """None is written and forgotten."""
    planned = {run.name for plan in plans for run in read_plan(ROOT / "plan" / f"{plan}.yaml").runs}

    assert {name for one in setting for name in comparisons(ROOT)[one].runs.values()} - but == planned


def test_the_plan_in_use_is_a_plan() -> None:
    """params.yaml is a plain file, else `dvc params diff` sees nothing; its content is that of one plan."""
    chosen = ROOT.parent / "params.yaml"

    assert not chosen.is_symlink()
    assert chosen.read_text() in [path.read_text() for path in PLANS]


def test_digits_in_the_street_are_files_in_class_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pixel as it is, the first ones to train on and the next to test on; what comes after is left out."""
    monkeypatch.syspath_prepend(ROOT)
    module = importlib.import_module("street_digits")
    monkeypatch.setattr(module, "TRAIN", 2)
    monkeypatch.setattr(module, "ALL", 3)
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), np.uint8)

    module.write(images, np.array([5, 0, 5, 1]), tmp_path)

    found = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*.bmp")}
    assert ["test/5/0002.bmp", "train/0/0001.bmp", "train/5/0000.bmp"] == sorted(found)
    for name, path in found.items():
        assert (np.asarray(Image.open(path)).transpose(2, 0, 1) == images[int(name[-8:-4])]).all()
