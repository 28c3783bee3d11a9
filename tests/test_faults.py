"""The list of planted faults is well formed, and the runner tells caught, surviving and meaningless ones apart."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from tests.faults.run import FAULTS, NOT_COUNTED, ROOT, Fault, read_faults, read_sources, run, verdict

LIST = read_faults(FAULTS)
TEXTS = read_sources(ROOT)


def test_a_fault_stands_wherever_its_lines_are_broken() -> None:
    """Moved, indented or wrapped, the text is still found, and only it is replaced."""
    planted = Fault("f", "says", (("f(a, b)", "g()"),), ()).planted({"one.py": "if x:\n    y = f(a,\n          b)\n"})

    assert {"one.py": "if x:\n    y = g()\n"} == planted


@pytest.mark.parametrize("fault", LIST, ids=lambda fault: fault.id)
def test_a_fault_can_be_planted(fault: Fault) -> None:
    """Each text stands in the sources exactly once, what is planted is other Python, and its tests are there."""
    for name, text in fault.planted(TEXTS).items():
        assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(TEXTS[name]))
    assert fault.tests
    for name in fault.tests:
        assert (ROOT / name).is_file()
        assert Path(name).name not in NOT_COUNTED


@pytest.mark.parametrize("old", ["a + a", "nothing", "b"])
def test_an_ambiguous_fault_is_refused(old: str) -> None:
    """A text that stands in two places, or nowhere, or would not change, plants nothing."""
    with pytest.raises(ValueError, match="wants 1, changed"):
        Fault("f", "says", ((old, "b"),), ()).planted({"one.py": "a + a, b", "other.py": "a + a"})


ADD = "def add(a, b):\n    return a + b\n\n\ndef two():\n    return 2\n"


def test_the_runner_on_a_small_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caught by its test, or by none; and a fault that cannot be imported proves nothing."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # plugins take most of the time
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # what was compiled must not stand in for the fault
    (tmp_path / "tests").mkdir()
    (tmp_path / "repro").mkdir()
    (tmp_path / "repro/add.py").write_text(ADD)
    (tmp_path / "given").mkdir()
    (tmp_path / "given/one").write_text("1")
    (tmp_path / "repro/given").symlink_to("../given")  # as experiments come with the package
    (tmp_path / "tests/test_add.py").write_text(
        "from pathlib import Path\n\nfrom repro.add import add\n\n\ndef test_add():\n"
        "    assert add(int(Path('repro/given/one').read_text()), 2) == 3\n"
    )
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)  # noqa: S603, S607
    edits = {"own": ("a + b", "a - b"), "none": ("return 2", "return 3"), "broken": ("a + b", "a +")}
    faults = [Fault(key, "says", (edit,), ("tests/test_add.py",)) for key, edit in edits.items()]

    outcomes = run(faults, tmp_path, 2, say=lambda _: None)

    assert outcomes[:2] == [("CAUGHT", "tests/test_add.py::test_add"), ("SURVIVED", "")]
    assert outcomes[2][0] == "REFUSED"
    assert "SyntaxError" in outcomes[2][1]
    assert ADD == (tmp_path / "repro/add.py").read_text()
    (tmp_path / "tests/test_add.py").write_text("def test_add():\n    assert False\n")
    with pytest.raises(ValueError, match=r"without any fault: tests/test_add\.py"):
        run(faults[:1], tmp_path, 1, say=lambda _: None)


def test_only_a_failing_test_is_a_catch() -> None:
    """A test that cannot start, or no output at all, catches nothing; names of tests may hold blanks."""
    assert ("CAUGHT", "tests/test_a.py::test_b[c d]") == verdict(
        1, "..F\nFAILED tests/test_a.py::test_b[c d] - assert\n"
    )
    assert "REFUSED" == verdict(1, "ERROR tests/test_a.py::test_b - NameError\n")[0]
    assert "REFUSED" == verdict(2, "")[0]
    assert ("SURVIVED", "") == verdict(0, "3 passed")
