"""The file of claims: what it holds, and the mistakes that are refused."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from repro.verify.claims import Claim, Status, read_claims
from repro.verify.rules import judge
from tests.verify_cases import HIGH, MPL, ORDERING, scores, with_rule

CLAIMS = Path(__file__).parent.parent / "experiments" / "claims.yaml"


NUMBER = {"kind": "absolute", "experiment": "mpl", "value": 96.11, "spread": 0.07, "runs": 10, "margin": 0.2}
ORDER = {"kind": "ordering", "better": "a", "worse": ["b"], "at_least": 0, "meaningful": 0.5}


def read(tmp_path: Path, rule: Any, **more: Any) -> list[Claim]:
    """A file with one claim of this rule; what is DELETE is left out."""
    entry = {"id": "c", "says": "s", "source": "t", "why": "w", "method": "mpl", "rule": rule} | more
    entry = {key: value for key, value in entry.items() if value != "DELETE"}
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({"claims": [entry]}))
    return read_claims(tmp_path / "claims.yaml")


def test_an_ordering_without_experiment_has_not_run(tmp_path: Path) -> None:
    """It names no run, is read with `better: null`, and evidence of whatever else there is does not judge it."""
    (claim,) = read(tmp_path, ORDER | {"better": None, "worse": [], "claimed": 0.9}, cost="a week")

    assert () == claim.runs == with_rule(ORDERING, better=None, worse=()).runs
    for evidence in ({}, scores("mpl", HIGH, MPL)):
        verdict = judge(claim, evidence)
        assert (Status.NOT_RUN, "this version has no experiment for it") == (verdict.status, verdict.reason)
        assert "a week" == verdict.missing


@pytest.mark.parametrize(("path", "value", "message"), [
    ("sayz", "typo", "c.sayz is not a setting; did you mean 'says'?"),
    ("rule.marginn", 1, "c.rule.marginn is not a setting; did you mean 'margin'?"),
    ("rule.margin", None, "c.rule.margin = None: wants a number"),
    ("rule.margin", 50, "larger passes too easily"),
    ("rule.value", 961.1, "a percentage"),
    ("rule.runs", 1, "one run has no spread"),
    ("rule.spread", 0.0, "null where nothing is known"),
    ("rule.kind", "absolut", "did you mean 'absolute'?"),
    ("rule", [1], "wants a mapping"),
    ("alpha", 0.5, "larger passes too easily"),
    ("by", "us", "c.by = 'us' is unknown; known: control, paper"),
    ("why", "", "c.why = '': string should have at least 1 character"),
    ("recipe", "DELETE", "recipe is missing"),
    ("method", "DELETE", "c.method is missing"),
])  # fmt: skip
def test_impossible_claims_are_refused(tmp_path: Path, path: str, value: Any, message: str) -> None:
    """Each mistake in the file is refused by claim, key and remedy."""
    assert 1 == len(read(tmp_path, NUMBER, recipe="paper"))
    *parents, last = path.split(".")
    rule, more = (NUMBER | {last: value}, {}) if parents else (NUMBER, {last: value})

    with pytest.raises(ValueError, match=re.escape(message)):
        read(tmp_path, **{"rule": rule, "recipe": "paper"} | more)


@pytest.mark.parametrize(("changes", "message"), [
    ({"worse": ["a"]}, "a list of different names"),
    ({"worse": ["b", "b"]}, "a list of different names"),
    ({"worse": []}, "want a name and a list of different names"),
    ({"better": None}, "or null and [] while an ordering has no experiment"),
    ({"differ_in": []}, "would allow any difference"),
    ({"kind": "success_rate", "success_at": 0.9, "worse": []}, "want a name and a list of different names"),
    ({"kind": "success_rate", "success_at": 0.9, "better": None, "worse": []}, "c.rule.better = None: wants text"),
    ({"at_least": 1.0}, "c.rule.at_least = 1.0: must be at most meaningful, 0.5"),
    ({"at_least": -1.0}, "c.rule.at_least = -1.0: must lie in [0, 100)"),
    ({"meaningful": 0.0}, "nothing could ever refute"),
    ({"kind": "success_rate", "success_at": 95}, "a share"),
])  # fmt: skip
def test_impossible_comparisons_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """A comparison that could not fail, or compares nothing, is refused."""
    with pytest.raises(ValueError, match=re.escape(message)):
        read(tmp_path, ORDER | changes)


def test_claim_id_used_twice(tmp_path: Path) -> None:
    """Two claims of one id would hide one verdict behind the other."""
    first = yaml.safe_load(CLAIMS.read_text())["claims"][0]
    file = tmp_path / "claims.yaml"
    file.write_text(yaml.safe_dump({"claims": [first, copy.deepcopy(first)]}))

    with pytest.raises(ValueError, match="used twice"):
        read_claims(file)
