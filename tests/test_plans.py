"""Plans, seeds, overrides and settings' files: what is right is read, what is wrong is refused in one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from repro.config import departures, read_config_file
from repro.plan import compose, read_plan
from repro.settings import ConfigError, parse_seeds
from repro.verify.claims import read_claims
from tests.entry_points import python
from tests.test_records_hostile import ALIASES

ROOT = Path(__file__).parent.parent / "experiments"


def test_settings_are_composed_in_any_folder(tmp_path: Path) -> None:
    """Fit is used far from the checkout: the experiments come with the package."""
    code = "from repro.plan import compose; print(compose('folder_uda', ['model=resnet50_narrow']).model.name)"

    assert python("-c", code, cwd=tmp_path).stdout == "resnet50\n"


@pytest.mark.parametrize(("text", "seeds"), [
    (3, (3,)), ("0-2", (0, 1, 2)), ("0-1, 10", (0, 1, 10)), ("5-5", (5,)), ("010", (10,)),
])  # fmt: skip
def test_seeds_are_read(text: str | int, seeds: tuple[int, ...]) -> None:
    """One seed, a range and a list are read in order."""
    assert seeds == parse_seeds(text)


@pytest.mark.parametrize("text", [
    "", "0-", "-", "a", "-1", "3-1", "1,1", "0-2,2", "1;2", "0--1", "1.5", True, None, [0, 1], {"a": 1}, "0 1", "0,",
    "٣-²",
    "0-99999999999", "9999999999", "0-999999999", "0-10000", "0-9999,20000",
])  # fmt: skip
def test_seeds_without_end_or_sense_are_refused(text: str) -> None:
    """No list of seeds is made before its length is known; the text is repeated in the answer."""
    with pytest.raises(ConfigError, match="seeds = "):
        parse_seeds(text)


def test_as_many_seeds_as_allowed_are_read() -> None:
    """The limits themselves are taken."""
    assert 10_000 == len(parse_seeds("0-9999"))
    assert (999_999_999,) == parse_seeds("999999999")


def test_plans_are_read(tmp_path: Path) -> None:
    """A plan names runs, overrides and seeds."""
    path = tmp_path / "plan.yaml"
    path.write_text("overrides: [y=2]\nneeds: gpu\nruns:\n  a: {seeds: 0-1}\n  b: {overrides: [x=1], seeds: 3}\n")
    plan = read_plan(path)

    assert ("plan", True) == (plan.name, plan.needs_gpu)
    assert [("a", ("y=2",), (0, 1)), ("b", ("y=2", "x=1"), (3,))] == [
        (run.name, run.overrides, run.seeds) for run in plan.runs
    ]


@pytest.mark.parametrize(
    "name", ["a/b", "../a", "..", ".", "", "a b", ".a", "-a", "é", "a\n", 3, True, None, "x" * 101]
)
def test_a_run_names_a_folder_of_its_own(name: object, tmp_path: Path) -> None:
    """A name that would leave its folder, or hide in it, is no name of a run."""
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump({"runs": {name: {"seeds": 0}}}))

    with pytest.raises(ConfigError, match=r"plan\.yaml: runs: .* names a folder, so wants 1 to 100 letters"):
        read_plan(path)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "sixty to the minute": (b"runs: {a: {seeds: 1:30}}",
        "line 1: YAML reads 1:30 as the number 90; .* in quotes as '1:30'"),
    "octal": (b"runs: {a: {seeds: 010}}", "reads 010 as the number 8; write 8, or write it in quotes as '010'"),
    "grouped": (b"runs: {a: {seeds: 1_0}}", "reads 1_0 as the number 10"),
    "sixty to the minute, with a part": (b"runs: {a: {seeds: 1:30.5}}", "reads 1:30.5 as the number 90.5"),
    "a date": (b"runs: {a: {seeds: 2001-01-02}}", "runs.a: seeds = .*2001, 1, 2.*: wants a list such as 0-4"),
    "an endless number": (b"runs: {a: {seeds: 1" + b"0" * 5000 + b"}}", "holds a number of 5,001 digits"),
    "a bomb of aliases": (ALIASES, "plan.yaml: line 2: refers to a list or mapping elsewhere"),
    "a plan that holds itself": (b"runs: &a {a: *a}", "refers to a list or mapping elsewhere"),
    "a name that is a number": (b"runs: {3: {seeds: 0}}", "3 names a folder, so wants"),
    "a name that is a list": (b"runs: {? [a] : {seeds: 0}}", "found unhashable key"),
    "pairs": (b"runs: !!pairs [a: {seeds: 0}]", "wants a mapping `runs:`"),
    "two documents": (b"runs: {a: {seeds: 0}}\n---\nruns: {b: {seeds: 0}}\n", "line 2: but found another document"),
    "megabytes": (b"runs: {a: {seeds: 0}}\n" + b"#" * (1 << 20), "plan.yaml: cannot be read .Is larger than 1,048,576"),
    "UTF-16": ("runs: {a: {seeds: 0}}".encode("utf-16-le"), "plan.yaml: "),
}  # fmt: skip
"""Seeds that YAML takes for other numbers, references, and other types than a plan has."""


@pytest.mark.parametrize(("content", "message"), [
    (b"runs:\n\ta: 1\n", r"line 2: found character .*YAML indents with spaces"),
    (b"runs: {a: {seeds: 0}, b: {seeds: 0}, a: {seeds: 1}}\n", "line 1: a stands there twice, keep one"),
    (b"runs: {a: {seeds: 0}}\n# caf\xe9\n", "is not a YAML file in UTF-8"),
    (b"runs: {a: {seeds: !!bool x}}", "is not a YAML file in UTF-8"),
    (b"[" * 5000, "line 1|is not a YAML file"),
    (b"- runs\n", "wants a mapping `runs:`"),
    (b"runs: {a: {seeds: 0}}\n1: 2\n", "1 is not a part of a plan"),
    (b"runs: {a: 3}\n", r"runs\.a = 3: wants seeds"),
    (b"runs: {a: {seeds: 0-}}\n", r"runs\.a: seeds = '0-': wants a list"),
    (b"runs: {a: {seeds: 0, experiment: b}}\n", r"runs\.a = .*: wants seeds"),
    (b"runs: {a: {seeds: 0, overrides: x=1}}\n", r"runs\.a\.overrides = 'x=1': wants a list of texts"),
    (b"runs: {a: {seeds: 0, overrides: [3]}}\n", r"runs\.a\.overrides = \[3\]: wants a list of texts"),
    (b"overrides: x=1\nruns: {a: {seeds: 0}}\n", "plan.yaml: overrides = 'x=1': wants a list of texts"),
    (b"needs: cpu\nruns: {a: {seeds: 0}}\n", "needs = 'cpu': only gpu"),
    *(pytest.param(*case, id=name) for name, case in HOSTILE.items()),
])  # fmt: skip
def test_a_damaged_plan_is_refused_in_one_sentence(content: bytes, message: str, tmp_path: Path) -> None:
    """Whatever the file holds, the answer names it and what is wrong with it."""
    path = tmp_path / "plan.yaml"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=message) as caught:
        read_plan(path)

    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


PLAN = """runs:
  digits_mpl: {seeds: 0-2, overrides: [method.feedback=none, "budget.steps=9"]}
  digits_uda:
    seeds: 0,3,5
"""


TYPED = " \n\t:-,.[]{}&*!|>'\"#%@`?~<$=0129aeé\u2028\ud7ff"


@settings(derandomize=True, deadline=None, database=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, len(PLAN)), st.integers(0, 3), st.text(TYPED, max_size=3)), min_size=1))
def test_a_mistyped_plan_is_read_or_refused_in_one_sentence(tmp_path: Path, edits: list[tuple[int, int, str]]) -> None:
    """Characters of YAML's own taken away and put in anywhere."""
    text = PLAN
    for at, gone, typed in edits:
        text = text[:at] + typed + text[at + gone :]
    path = tmp_path / "plan.yaml"
    path.write_bytes(text.encode())
    said = f"{path}"
    try:
        assert all(isinstance(seed, int) and seed >= 0 for run in read_plan(path).runs for seed in run.seeds)
    except ConfigError as error:
        said = str(error)
    assert said.startswith(str(path))
    assert "\n" not in said


def test_a_folder_is_no_plan(tmp_path: Path) -> None:
    """The plans that there are, are named."""
    with pytest.raises(ConfigError, match=r"no plan at .*; choose one with: make reproduce PLAN=.*; plans: .*quick"):
        read_plan(tmp_path)


@pytest.mark.parametrize("override", [
    "", "a", "=", "=1", "budget=3", "budget.steps=1,2", "budget.steps=???", "budget.steps=" + "9" * 5000, "title='",
    "title=\n", "title=${x}", "data=nope", "~data", "+new=1", "data@x=digits",
    "setting=digits", "+setting=digits", "hydra.run.dir=x", "--help", "budget.steps=range(1,3)", "recipe.values={a: 1}",
    "+recipe.open.nothing=here",
])  # fmt: skip
def test_no_override_is_taken_for_another(override: str) -> None:
    """Syntax, sweeps, Hydra's own settings, another experiment: refused in one sentence."""
    with pytest.raises(ConfigError) as caught:
        compose("moons_stated_mpl", [override], ROOT)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("overrides", "message"), [
    (["method.feedbak=none"], "did you mean 'method.feedback'"),
    (["method.feedback=cosin"], "did you mean 'cosine'"),
    (["title='${title}${title}'"], "refers to another value; write the value itself"),  # billions of letters in a few
    (["budget.steps=-1"], r"budget.steps = -1: must lie in \[1, 1,000,000,000\]"),
    (["budget.steps=many"], "budget.steps = 'many': wants a whole number"),
    (["data=digits"], "model.name = moons_net does not fit data.name = digits; use small_conv"),
    (["method=mpi"], "mpi"),
    (["method=uda"], "sets method.pseudo_label_view, which method=uda does not have; change another run"),
])  # fmt: skip
def test_a_wrong_override_is_refused_by_name(overrides: list[str], message: str) -> None:
    """One sentence with key, value and remedy."""
    with pytest.raises(ConfigError, match=message) as caught:
        compose("moons_stated_mpl", overrides, ROOT)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("run", "message"), [
    ("digits_mlp", r"run = 'digits_mlp' is no arm of a setting in .*; did you mean 'digits_mpl'"),
    ("digits_mixup", "run = 'digits_mixup' is no arm"),  # there is such an arm, in another setting
    ("../digits_mpl", "is no arm"),
])  # fmt: skip
def test_an_unknown_run_is_refused_with_the_nearest_one(run: str, message: str) -> None:
    """A misspelt run names the one that was meant."""
    with pytest.raises(ConfigError, match=message):
        compose(run, root=ROOT)


_COMPARISON = "comparison: {page: x, heading: x, introduction: x, reference: mpl, arms: {mpl: }}\n"


@pytest.mark.parametrize(("content", "message"), [
    ("", "wants a mapping `comparison:`"),
    ("comparison: {arms: {mpl: }}\n", "comparison: page is missing; add it"),
    (_COMPARISON.replace("page", "pge"), "comparison.pge is not a part of a comparison; did you mean 'page'"),
    (_COMPARISON.replace("{mpl:", "{mlp:"), "comparison.arms.mlp has no row in .*; did you mean 'mpl'"),
    (_COMPARISON + "defaults: [bad]\n", "bad_mpl: "),
    (_COMPARISON + "defaults: 3\n", "must be a list"),
    (_COMPARISON + "budgt: {steps: 3}\n", "budgt is not a setting; did you mean 'budget'"),
])  # fmt: skip
def test_a_damaged_setting_is_refused_in_one_sentence(content: str, message: str, tmp_path: Path) -> None:
    """A tab, a key that stands twice, an unknown arm, or no comparison at all."""
    root = tmp_path / "experiments"
    shutil.copytree(ROOT, root)
    (root / "setting/bad.yaml").write_text(f"# @package _global_\n{content}" if content else "")

    with pytest.raises(ConfigError, match=message) as caught:
        compose("bad_mpl", root=root)

    assert "\n" not in str(caught.value)


def test_shortened_phases_are_rounded() -> None:
    """2,500 of 300,000 steps are 1/120 of everything: wait 3,000 to 25, warm-up 5,000 to 41.67, so 42 and not 41."""
    short = compose("cifar10_released_mpl", ["budget.shortened_to=2500"], ROOT).optim.student

    assert (25, 42) == (short.wait_steps, short.warmup_steps)
    assert 8 == compose("cifar10_released_mpl", ["budget.shortened_to=2500", "optim.student.wait_steps=1000"],
                        ROOT).optim.student.wait_steps  # fmt: skip


def test_batch_norm_of_a_part_of_the_batch_is_a_departure() -> None:
    """Of a single process too; 0, all that train, is what the recipes have."""
    for group in (1, 2):
        found = departures(compose("digits_mpl", [f"engine.batch_norm_processes={group}"], ROOT))
        assert ("batch norm over the whole batch", f"groups of {group} processes") in [
            (one.prescribed, one.here) for one in found
        ]
    assert not [one for one in departures(compose("digits_mpl", (), ROOT)) if "batch_norm" in one.key]


def test_damaged_settings_and_claims_name_their_file(tmp_path: Path) -> None:
    """Prepared settings and claims are read as strictly as plans."""
    path = tmp_path / "a.yaml"
    path.write_text("claims: []\nclaims: []\n")

    for read in (read_config_file, read_claims):
        with pytest.raises(ConfigError, match=r"a\.yaml: line 2: claims stands there twice"):
            read(path)
