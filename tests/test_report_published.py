"""The paper's tables beside our runs: every row, exactly, and nothing of ours that verification refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from repro.verify.rebuild import Scores

from repro.cli import report
from repro.plan import experiments
from repro.records.verdicts import VERDICTS, write_verdicts
from repro.report.groups import CIFAR10
from repro.report.published import DATA_SETS, Row, Whose, read_published
from repro.report.published_sections import published_sections
from repro.report.render import render
from repro.verify.claims import Absolute, Claim, Status, read_claims
from repro.verify.rules import judge
from tests.report_cases import make_run, make_scores, section_of
from tests.verify_cases import MPL, scores

ROOT = Path(__file__).parent.parent
FILE = ROOT / report.TABLE2
CLAIMS = read_claims(ROOT / "experiments/claims.yaml")

PAPER = """
Temporal Ensemble        83.63±0.63  92.81±0.27  -      -
Mean Teacher             84.13±0.28  94.35±0.47  -      -
VAT+EntMin               86.87±0.39  94.65±0.19  -      83.39
LGA+VAT                  87.94±0.19  93.42±0.36  -      -
ICT                      92.71±0.02  96.11±0.04  -      -
MixMatch                 93.76±0.06  96.73±0.31  -      -
ReMixMatch               94.86±0.04  97.17±0.30  -      -
EnAET                    94.65       97.08       -      -
FixMatch                 95.74±0.05  97.72±0.38  71.5   89.1
UDA*                     94.53±0.18  97.11±0.17  68.07  88.19
SimCLR                   -           -           71.7   90.4
MoCo v2                  -           -           71.1   -
BYOL                     -           -           68.8   89.0
Meta Pseudo Labels*      96.11±0.07  98.01±0.07  73.89  91.38
Supervised, all labels*  94.92±0.17  97.41±0.16  76.89  93.27
"""
"""Table 2 as the paper has it: CIFAR-10-4K, SVHN-1K, ImageNet-10% top-1 and top-5; * the authors' own runs."""

COLUMNS = ["cifar10_4k", "svhn_1k", "imagenet_10pct_top1", "imagenet_10pct_top5"]


def rows() -> list[Row]:
    """The rows of the file."""
    return read_published(FILE.read_text(), "table2.yaml", CLAIMS)


def paper() -> list[tuple[str, bool, dict[str, str]]]:
    """`PAPER`, row by row: method, whether it is the authors' own run, and its cells by column; - where it has none."""
    found = []
    for line in PAPER.strip().splitlines():
        method, *cells = re.split(r" {2,}", line)
        found.append((method.removesuffix("*"), method.endswith("*"), dict(zip(COLUMNS, cells, strict=True))))
    return found


def lines_of(text: str) -> dict[str, list[str]]:
    """The cells of a section's table by method."""
    table = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {cells[0]: cells[1:] for cells in table[2:]}


def cifar10(evidence: Mapping[str, Scores], claims: list[Claim]) -> dict[str, list[str]]:
    """The cells of the CIFAR-10 section, judged on this evidence."""
    verdicts = [judge(claim, evidence) for claim in claims]
    return lines_of(published_sections(rows(), evidence, claims, verdicts)[0])


def about(run: str, recipe: str = "paper") -> list[Claim]:
    """The claims, that about MPL on CIFAR-10 resting on `run`."""
    found = []
    for claim in CLAIMS:
        if claim.id == "cifar10_4k_mpl" and isinstance(claim.rule, Absolute):
            found.append(replace(claim, recipe=recipe, rule=replace(claim.rule, experiment=run, network=None)))
        else:
            found.append(claim)
    return found


def test_every_row_is_there_exactly_as_in_the_paper() -> None:
    """Methods, order, whose run, values and spreads of Table 2: no row more, none less, no number off."""
    expected = []
    for method, own, cells in paper():
        numbers = {column: cell.split("±") for column, cell in cells.items() if cell != "-"}
        expected.append((method, own, {c: (float(n[0]), *map(float, n[1:])) for c, n in numbers.items()}))

    actual = []
    for row in (row for row in rows() if row.table == "Table 2"):
        given = {c: (n.value,) if n.spread is None else (n.value, n.spread) for c, n in row.numbers.items()}
        actual.append((row.method, row.whose is Whose.authors, given))
    assert expected == actual


def test_every_number_that_a_claim_judges_is_beside_its_claim() -> None:
    """Each absolute claim is named by one number, which is the authors' own."""
    named = [(number.claim, row.whose) for row in rows() for number in row.numbers.values() if number.claim]

    absolute = [(claim.id, Whose.authors) for claim in CLAIMS if isinstance(claim.rule, Absolute)]
    assert sorted(absolute) == sorted(named)


def test_runs_that_rows_name_are_experiments() -> None:
    """No row waits for a run that nothing describes."""
    named = {number.run for row in rows() for number in row.numbers.values() if number.run}

    assert named
    assert set() == named - set(experiments(ROOT / "experiments"))


def test_every_row_is_shown_when_nothing_has_run() -> None:
    """Without any run each data set has its section, in the paper's order, with each row, number and verdict."""
    text = render({}, {}, CLAIMS, [judge(claim, {}) for claim in CLAIMS], rows()).markdown

    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert ["## Verdicts", *(f"## {data.heading}" for data in DATA_SETS), "## How to read this"] == headings
    for data in DATA_SETS:
        shown = lines_of(section_of(text, data.heading))
        for method, own, cells in paper():
            numbers = [cells.get(column, "-").replace("-", "–").replace("±", " ± ") for column in data.columns]
            if set(numbers) != {"–"}:
                cells_shown = shown.pop(method)
                beside = cells_shown[len(numbers) + 1 :]
                assert [*numbers, "authors' own" if own else "quoted"] == cells_shown[: len(numbers) + 1]
                assert {"–"} == set(beside[::2])
                for number, verdict in zip(numbers, beside[1::2], strict=True):
                    judged = "**NOT RUN**" if own else "not run"
                    assert verdict.startswith("–" if number == "–" else judged)
        for method, cells in shown.items():
            assert re.search(r" \((Table (9|10|11)|Figure 3)\)$", method)
            assert ["authors' own", "–", "**NOT RUN**"] == cells[len(data.columns) : len(data.columns) + 3]


def test_the_sections_stand_before_those_of_the_runs() -> None:
    """The paper's tables come first, then the groups of runs, CIFAR-10's before the others."""
    runs = [make_run(f"{prefix}_mpl", [0.9]) for prefix in ("digits", "cifar10_paper", "cifar10_cpu")]
    evidence = {run.name: make_scores(run) for run in runs}
    text = render({run.name: [run] for run in runs}, evidence, CLAIMS, [], rows()).markdown

    wanted = [data.heading for data in DATA_SETS]
    wanted += [CIFAR10[0].heading, CIFAR10[-1].heading, "Handwritten digits, few labels"]
    assert wanted == [heading for heading in re.findall(r"^## (.*)$", text, re.MULTILINE) if heading in wanted]


def test_a_run_of_the_recipe_is_shown_with_its_verdict() -> None:
    """Mean, half interval and seeds are those of the recomputed accuracies, the verdict that of the judge."""
    evidence = scores("m", [961, 962, 960, 961, 961], MPL, budget__steps=1000)

    # mean 96.10; sd 0.0707; t(0.975, 4) = 2.7764; half = 2.7764 * 0.0707 / sqrt(5)
    assert ["96.10 ± 0.09 over 5 seeds", "**REPRODUCED**"] == cifar10(evidence, about("m"))["Meta Pseudo Labels"][-2:]


def test_a_run_with_departures_is_inconclusive() -> None:
    """The paper's very number at half the steps is shown, and does not count as reproduced."""
    evidence = scores("m", [961, 962, 960, 961, 961], MPL, budget__steps=500)

    shown = cifar10(evidence, about("m"))["Meta Pseudo Labels"]
    assert ["96.10 ± 0.09 over 5 seeds", f"**{Status.INCONCLUSIVE}**"] == shown[-2:]


def test_refused_numbers_are_not_shown() -> None:
    """A seed refused by verification, or a run of another recipe, leaves neither number nor pass."""
    evidence = scores("m", [961, 962, 960, 961, 961], MPL, budget__steps=1000)
    doubted = {"m": replace(evidence["m"], problems=["m, seed 3: hash differs"])}

    refused = ["– (refused)", "**INCONCLUSIVE**"]
    assert refused == cifar10(doubted, about("m"))["Meta Pseudo Labels"][-2:]
    assert refused == cifar10(evidence, about("m", recipe="another"))["Meta Pseudo Labels"][-2:]


def test_a_quoted_row_shows_the_run_that_it_names() -> None:
    """Without a claim our number stands beside the paper's, not judged; it is refused like any other."""
    evidence = {"cifar10_released_fixmatch": make_scores(make_run("cifar10_released_fixmatch", [0.95, 0.96]))}
    doubted = {name: replace(found, problems=["no"]) for name, found in evidence.items()}
    full = {name: replace(found, reduced=False) for name, found in evidence.items()}

    ours, verdict = cifar10(evidence, CLAIMS)["FixMatch"][-2:]
    assert "95.50 ± 6.35 over 2 seeds" == ours
    assert "not judged: `cifar10_released_fixmatch`, a reduced budget or departures from its recipe" == verdict
    assert cifar10(full, CLAIMS)["FixMatch"][-1].endswith("its recipe at full budget")
    assert ["– (refused)", "not judged: `cifar10_released_fixmatch`"] == cifar10(doubted, CLAIMS)["FixMatch"][-2:]
    assert ["–", "not run yet: `cifar10_released_fixmatch`"] == cifar10({}, CLAIMS)["FixMatch"][-2:]
    assert ["–", "not run by us"] == cifar10(evidence, CLAIMS)["MixMatch"][-2:]


def test_the_cost_of_what_is_not_settled_is_named_once() -> None:
    """Methods of the same cost share a sentence; what has been settled costs nothing more."""
    claims = about("m")
    costs = {claim.id: claim.cost.strip() for claim in claims}
    evidence = scores("m", [961, 962, 960, 961, 961], MPL, budget__steps=1000)

    before = published_sections(rows(), {}, claims, [judge(claim, {}) for claim in claims])[0]
    after = published_sections(rows(), evidence, claims, [judge(claim, evidence) for claim in claims])[0]
    others = "; ".join(f"{teacher} with MPL (Table 10)" for teacher in ("Pseudo Labels", "Mixup", "RandAugment"))
    assert f"UDA; Meta Pseudo Labels; MPL as regulariser (Table 9); {others}: {costs['cifar10_4k_mpl']}." in before
    assert 1 == before.count(costs["cifar10_4k_uda"])
    assert "Meta Pseudo Labels; " not in after
    assert f"UDA; MPL as regulariser (Table 9); {others}: {costs['cifar10_4k_uda']}." in after


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "claim: cifar10_4k_mpl}",
            "claim: cifar10_4k_mlp}",
            "cifar10_4k: claim = 'cifar10_4k_mlp' is unknown; did you",
        ),
        ("claim: cifar10_4k_mpl}", "claim: cifar10_4k_sign}", "judges no number of the paper; name an absolute claim"),
        ("{value: 96.11, spread: 0.07,", "{value: 96.1, spread: 0.07,", "'cifar10_4k_mpl' says 96.11 and 0.07; mend"),
        ("{value: 96.11, spread: 0.07,", "{value: 96.11, spread: null,", "spread = None, but the claim"),
        (
            "imagenet_10pct_top1: {value: 73.32",
            "imagenet_10pct_top5: {value: 73.32",
            "is about accuracy; name one about",
        ),
        ("{value: 83.63, spread: 0.63}", "{spread: 0.63}", "Temporal Ensemble, cifar10_4k: value is missing"),
        ("{value: 83.63, spread: 0.63}", "{value: 83.63}", "Temporal Ensemble, cifar10_4k: spread is missing"),
        ("{value: 83.63, spread: 0.63}", "{value: 836.3, spread: 0.63}", r"value = 836.3: must be a percentage"),
        ("{value: 83.63, spread: 0.63}", "{value: .nan, spread: 0.63}", "value = nan: must be a percentage"),
        ("{value: 83.63, spread: 0.63}", "{value: 83.63, spread: 0}", "spread = 0: must be above 0 points"),
        ("{value: 83.63, spread: 0.63}", "{value: 83.63, spraed: 0.63}", "spraed is not a key; did you mean 'spread'"),
        ("{value: 83.63, spread: 0.63}", "83.63", "cifar10_4k = 83.63: wants a mapping"),
        ("run: cifar10_released_fixmatch}", "run: null}", "run = None: wants a name"),
        ("run: cifar10_released_fixmatch}", "run: a, claim: cifar10_4k_mpl}", "has both claim and run"),
        ("- method: Mixup\n    whose: authors\n", "- method: Mixup\n", "Mixup: whose = None: wants text"),
        (
            "Mixup\n    whose: authors\n    table: Table 10\n",
            "Mixup\n    whose: authors\n",
            "Mixup: table = None: wants",
        ),
        ("  - method: ICT\n    whose: quoted", "  - method: ICT\n    whose: qouted", "did you mean 'quoted'"),
        ("  - method: ICT\n", "  - method: EnAET\n", "method = 'EnAET' is twice in Table 2"),
        (
            "    svhn_1k: {value: 96.11",
            "    svnh_1k: {value: 96.11",
            "ICT: svnh_1k is not a key; did you mean 'svhn_1k'",
        ),
        ("    imagenet_10pct_top1: {value: 71.1, spread: null}\n", "", "MoCo v2: has no number; give one of"),
        ("other_tables:", "other_table:", "other_table is not a key; did you mean 'other_tables'"),
    ],
)
def test_wrong_tables_are_refused_by_name(old: str, new: str, message: str) -> None:
    """Row, column, value and remedy, whatever is wrong."""
    text = FILE.read_text()

    assert text.count(old) == 1
    with pytest.raises(ValueError, match=f"^table2.yaml.*{message}"):
        read_published(text.replace(old, new), "table2.yaml", CLAIMS)


@pytest.mark.parametrize("text", ["", "table2: []", "table2: {}\nother_tables: []"])
def test_an_empty_table_is_refused(text: str) -> None:
    """A file without rows does not make the sections vanish unnoticed."""
    with pytest.raises(ValueError, match=r"^table2\.yaml(: wants a list| = None: wants a mapping)"):
        read_published(text, "table2.yaml", CLAIMS)


def test_the_entry_point_shows_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m repro.cli.report` reads the file: with no run at all the report has every data set."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    write_verdicts([judge(claim, {}) for claim in CLAIMS], VERDICTS)

    report.main()

    text = (tmp_path / "results/REPORT.md").read_text()
    assert [data.heading for data in DATA_SETS] == [
        data.heading for data in DATA_SETS if section_of(text, data.heading)
    ]
