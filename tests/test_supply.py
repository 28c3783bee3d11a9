"""The checks of the lock and of generated files find what they are for; without a network."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repro.plan import read_plan
from tests.supply import lock
from tests.supply.generated import figure_problem, json_problem, text_problem

ROOT = Path(__file__).parents[1]
PROJECT, LOCK = (ROOT / "pyproject.toml").read_text(), (ROOT / "requirements.lock").read_text()


def test_the_lock_holds_what_the_project_asks_for() -> None:
    """Every requirement has a pin that satisfies it, every pin a SHA-256."""
    assert [] == lock.offline_problems(PROJECT, LOCK)


@pytest.mark.parametrize(("damage", "says"), [
    (lambda t: re.sub(r"^tqdm==.*?(?=^\S)", "", t, flags=re.MULTILINE | re.DOTALL), "pins nothing for tqdm"),
    (lambda t: re.sub(r"^torch==\S+", "torch==2.7.0", t, flags=re.MULTILINE), "pins ['2.7.0'] for torch>"),
    (lambda t: t.replace("\ntorch==", "\ntorch>="), "for torch>"),
])  # fmt: skip
def test_a_damaged_lock_is_found_without_a_network(damage: Callable[[str], str], says: str) -> None:
    """A dropped pin, one that is too old, or a range."""
    (problem,) = lock.offline_problems(PROJECT, damage(LOCK))

    assert says in problem


def test_resolving_again_sees_every_pin() -> None:
    """A pin more or less, another version or marker; but not one more file of the same version."""
    one, other = "a==1 \\\n    --hash=sha256:aa\n", "b==2 ; sys_platform == 'linux' \\\n    --hash=sha256:bb\n"

    assert [] == lock.differences(f"# head\n{one}{other}", f"{one.rstrip()} \\\n    --hash=sha256:cc\n{other}")
    assert "lacks b==2 ; sys_platform" in lock.differences(one, one + other)[0]
    assert "pins b==2 ; sys_platform" in lock.differences(one + other, one)[0]
    assert 2 == len(lock.differences(one, one.replace("==1", "==1.1")))
    assert 2 == len(lock.differences(other, other.replace("linux", "win32")))


@pytest.mark.parametrize(("stderr", "found", "how"), [
    ("error: Failed to fetch: `https://index.example/simple/x/`", 0, "cannot be reached (error: Failed to fetch: `<"),
    ("  x No solution found when resolving dependencies:", 1, "resolved again"),
])  # fmt: skip
def test_no_index_is_not_no_solution(stderr: str, found: int, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an index the pins themselves are checked, and it is said; what cannot be resolved is a problem."""
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 2, "", stderr))

    problems, said = lock.check(ROOT)

    assert found == len(problems)
    assert how in said
    assert "example" not in said


def test_the_lock_is_resolved_as_it_was_made() -> None:
    """The check calls uv with the options of `make lock`."""
    recipe = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "uv pip compile" in line)

    assert recipe.split()[1:] == [*lock.RESOLVE, "requirements.lock"]


def test_the_canary_is_a_part_of_the_quick_plan() -> None:
    """CI's runs are those of quick, with their names, settings and seeds: equal records replace theirs."""
    canary, quick = (read_plan(ROOT / f"experiments/plan/{name}.yaml").runs for name in ("canary", "quick"))

    assert set(canary) < set(quick)


def test_text_must_be_equal() -> None:
    """A changed digit is shown with its line; a missing last line is found."""
    path = Path("README.md")

    assert [] == text_problem(path, "a\nb\n", "a\nb\n", "make verify")
    assert "README.md:2 has 'x 95.1' where the recorded runs give 'x 95.2'; write it with: make verify" in text_problem(
        path, "a\nx 95.1\n", "a\nx 95.2\n", "make verify"
    )
    assert text_problem(path, "a\n", "a\nb\n", "")
    assert text_problem(path, "a", "a\n", "")


def test_numbers_may_differ_in_their_last_digits_only() -> None:
    """Sums rounded otherwise are no difference; a changed number, key, length, type or word is."""
    verdict = [{"estimate": 44.583333333333336, "n": 30, "why": "x", "p": float("nan")}]
    near = [verdict[0] | {"estimate": 44.58333333333334}]

    assert "" == json_problem(verdict, near)
    assert "[0].estimate is 44.583333333333336 where" in json_problem(verdict, [verdict[0] | {"estimate": 44.5834}])
    for other in ({"n": 31}, {"n": 30.0}, {"why": "y"}, {"more": 1}, {"p": 0.0}):
        assert json_problem(verdict, [verdict[0] | other])
    assert json_problem(verdict, [])


def test_a_figure_must_show_the_same(tmp_path: Path) -> None:
    """A shade of one pixel is no difference; a moved line, another size or a missing file is."""
    pixels = np.full((200, 200, 3), 255, np.uint8)
    pixels[100] = 0
    shaded, moved = pixels.copy(), np.roll(pixels, 1, axis=0)
    shaded[0, 0] = 250
    recorded, generated = tmp_path / "figure.png", tmp_path / "generated.png"

    def problem(other: np.ndarray) -> list[str]:
        Image.fromarray(other).save(generated)
        return figure_problem(recorded, generated)

    assert "is not there" in problem(pixels)[0]
    Image.fromarray(pixels).save(recorded)

    assert [] == problem(pixels) + problem(shaded)
    assert "1.00% of it differs" in problem(moved)[0]
    assert "another size" in problem(pixels[1:])[0]
