"""Every file in experiments/ is used, composes, and says what it is."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from repro.config.schema import CHOICES

from repro.config import as_mapping, departures, lookup, read_config
from repro.plan import compose, experiments, parse_seeds, read_plan
from repro.settings import ConfigError
from repro.verify.claims import read_claims

ROOT = Path(__file__).parent.parent / "experiments"
PLANS = sorted((ROOT / "plan").glob("*.yaml"))


@pytest.mark.parametrize("name", experiments(ROOT))
def test_every_experiment_composes(name: str) -> None:
    """The file is complete, its settings are possible, and reading them back gives the same settings."""
    config = compose(name, root=ROOT)

    assert config == read_config(as_mapping(config))
    assert config.title


@pytest.mark.parametrize("name", experiments(ROOT))
def test_every_experiment_says_what_it_is(name: str) -> None:
    """The second line of the file is a comment for its reader."""
    lines = (ROOT / "experiment" / f"{name}.yaml").read_text().splitlines()

    assert lines[0] == "# @package _global_"
    assert lines[1].startswith("# ")
    assert len(lines[1]) > 20


def test_titles_tell_the_arms_of_a_setting_apart() -> None:
    """No two arms that share a table have the same title."""
    titles = [(name.rsplit("_", 1)[0].split("_mpl")[0], compose(name, root=ROOT).title) for name in experiments(ROOT)]

    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(("group", "choice"), [(g, c) for g, choices in CHOICES.items() for c in choices])
def test_choices_name_every_setting(group: str, choice: str) -> None:
    """A group file lists each field of its dataclass with the dataclass's default, so that all can be overridden."""
    given = yaml.safe_load((ROOT / group / f"{choice}.yaml").read_text())
    cls = CHOICES[group][choice]

    assert [field.name for field in fields(cls)] == list(given)
    assert {"name": choice} | given == given


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_every_plan_names_experiments_that_compose(path: Path) -> None:
    """A plan fails before its first run, not in the middle of the night."""
    for planned in read_plan(path):
        compose(planned.experiment, planned.overrides, ROOT)


def test_claims_speak_of_runs_that_a_plan_has() -> None:
    """No claim waits for a run that nothing makes."""
    planned = {run.name for path in PLANS for run in read_plan(path)}

    orphans = [
        (claim.id, run) for claim in read_claims(ROOT / "claims.yaml") for run in claim.runs if run not in planned
    ]

    assert orphans == []


def test_the_plan_in_use_is_a_plan() -> None:
    """params.yaml is a link into experiments/plan."""
    chosen = ROOT.parent / "params.yaml"

    assert chosen.is_symlink()
    assert chosen.resolve() in [path.resolve() for path in PLANS]


@pytest.mark.parametrize("name", [name for name in experiments(ROOT) if name.startswith("moons_stated")])
def test_moons_as_stated_depart_from_nothing_that_is_stated(name: str) -> None:
    """The arms called `stated` follow every sentence of section 3.1."""
    config = compose(name, root=ROOT)

    assert [departure.key for departure in departures(config) if not departure.open] == []


def test_recipes_name_settings_that_exist() -> None:
    """A recipe whose keys were misspelt would never find a departure."""
    mpl = as_mapping(compose("moons_stated_mpl", root=ROOT))
    recipe = mpl["recipe"]

    missing = [key for key in [*recipe["values"], *recipe["open"]] if lookup(mpl, key) is None]

    assert missing == []


@pytest.mark.parametrize(
    ("arm", "differs_in"),
    [
        ("moons_stated_mpl_reversed", {"method.feedback_sign"}),
        ("moons_stated_mpl_no_feedback", {"method.feedback"}),
        ("moons_stated_mpl_shuffled", {"method.feedback"}),
        ("moons_stated_mpl_unsupervised_teacher", {"method.teacher_supervised"}),
    ],
)
def test_arms_differ_from_mpl_in_their_one_setting(arm: str, differs_in: set[str]) -> None:
    """An arm switches one thing and leaves everything else fixed."""
    base, other = as_mapping(compose("moons_stated_mpl", root=ROOT)), as_mapping(compose(arm, root=ROOT))

    sections = ("data", "model", "method", "optim", "budget", "finetune")
    keys = {f"{part}.{key}" for part in sections for key in base[part] if base[part][key] != other[part][key]}

    assert differs_in == keys


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method.feedbak=none"], "did you mean 'method.feedback'"),
        (["method.feedback=cosin"], "did you mean 'cosine'"),
        (["budget.steps=-1"], "budget.steps = -1: must lie in"),
        (["budget.steps=many"], "budget.steps = 'many': wants a whole number"),
        (["data.noise=-0.1"], "data.noise = -0.1: must lie in"),
        (["data=digits"], "does not fit data.name"),
        (["method=mpi"], "mpi"),
    ],
)
def test_wrong_settings_are_refused_by_name(overrides: list[str], message: str) -> None:
    """One sentence with key, value and remedy, whatever is wrong."""
    with pytest.raises(ConfigError, match=message) as caught:
        compose("moons_stated_mpl", overrides, ROOT)

    assert "\n" not in str(caught.value)


def test_an_unknown_experiment_is_refused_with_the_nearest_one() -> None:
    """A misspelt experiment names the one that was meant."""
    with pytest.raises(ConfigError, match="did you mean 'digits_mpl'"):
        compose("digits_mlp", root=ROOT)


@pytest.mark.parametrize(("text", "seeds"), [("3", (3,)), ("0-2", (0, 1, 2)), ("0-1,5", (0, 1, 5)), (4, (4,))])
def test_seeds_are_read(text: str | int, seeds: tuple[int, ...]) -> None:
    """Ranges, lists and single numbers."""
    assert seeds == parse_seeds(text)


@pytest.mark.parametrize("text", ["", "a", "3-1", "1,1", "-2", "0-2,2"])
def test_wrong_seeds_are_refused(text: str) -> None:
    """Nothing else is taken for a list of seeds."""
    with pytest.raises(ConfigError, match="seeds"):
        parse_seeds(text)
