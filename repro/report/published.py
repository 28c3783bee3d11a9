"""What the paper reports on each data set, as data. experiments/table2.yaml is the only source."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

import yaml

from repro.settings import closest
from repro.verify.claims import Absolute, Claim, Measure


class Whose(StrEnum):
    """Where a row's numbers come from."""

    authors = "authors"  # their own run
    quoted = "quoted"  # copied by them from the method's own paper


@dataclass(frozen=True)
class Number:
    """An accuracy of the paper, and what of ours stands beside it."""

    value: float  # %
    spread: float | None  # standard deviation over the paper's runs, points; None where it gives none
    claim: str = ""  # id of the claim that judges it
    run: str = ""  # where no claim does: a run of ours


@dataclass(frozen=True)
class Row:
    """One method's numbers."""

    method: str
    whose: Whose
    table: str  # of the paper
    numbers: dict[str, Number]  # by column, those that the paper gives


@dataclass(frozen=True)
class DataSet:
    """One data set of the paper's tables: a section of the report."""

    heading: str
    protocol: str  # of the paper's numbers
    columns: dict[str, str]  # name in the file -> what it measures
    rows: str = (  # which of the paper's are shown, a sentence
        "Every row of the paper's Table 2 on these data, and those rows of its other tables and of Figure 3 that a "
        "claim is about."
    )


_TEN_RUNS = "WideResNet-28-2, mean ± standard deviation over 10 runs on one fixed split (of other tables, as is taken)"

DATA_SETS = (
    DataSet(
        heading="CIFAR-10 with 4,000 labels",
        protocol=_TEN_RUNS,
        columns={"cifar10_4k": "accuracy"},
    ),
    DataSet(
        heading="SVHN with 1,000 labels",
        protocol=_TEN_RUNS,
        columns={"svhn_1k": "accuracy"},
    ),
    DataSet(
        heading="ImageNet with 10 % of the labels",
        protocol="ResNet-50, a single run",
        columns={"imagenet_10pct_top1": "top-1 accuracy", "imagenet_10pct_top5": "top-5 accuracy"},
    ),
    DataSet(
        heading="CIFAR-10 with all labels and other unlabelled images",
        protocol="EfficientNet-B0, mean ± standard deviation, taken to be over 10 runs",
        columns={"cifar10_all": "accuracy"},
        rows="The rows of the paper's Table 11, on Reduced Meta Pseudo Labels, that a claim is about.",
    ),
)
COLUMNS = [column for data in DATA_SETS for column in data.columns]


def measure_of(column: str) -> Measure:
    """What is right in a column of the file."""
    return Measure.top5 if column.endswith("_top5") else Measure.accuracy


TABLE = "Table 2"


def read_published(text: str, where: str, claims: Sequence[Claim]) -> list[Row]:
    """The rows in `text` (YAML), those of Table 2 first, each in the file's order; `where` names it in messages.

    Raises:
        ValueError: for an unknown key, a missing or impossible value, a method that is there twice, or a claim that is
            not there or says another number, naming it and the remedy.
    """
    content = _mapping(yaml.safe_load(text), where, ["table2", "other_tables"])
    rows = [_row(entry, f"{where}: table2", TABLE, claims) for entry in _list(content, "table2", where)]
    rows += [_row(entry, f"{where}: other_tables", "", claims) for entry in _list(content, "other_tables", where)]
    seen: set[tuple[str, str]] = set()
    for row in rows:
        if (row.method, row.table) in seen:
            raise ValueError(f"{where}: method = {row.method!r} is twice in {row.table}; remove one")
        seen.add((row.method, row.table))
    return rows


def _list(content: Mapping[str, Any], key: str, where: str) -> list[Any]:
    entries = content.get(key)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{where}: wants a list `{key}:`")
    return entries


def _row(entry: Any, where: str, table: str, claims: Sequence[Claim]) -> Row:
    if isinstance(entry, Mapping) and isinstance(entry.get("method"), str):
        where = f"{where}, {entry['method']}"
    own = ["method", "whose"] if table else ["method", "whose", "table"]
    content = _mapping(entry, where, [*own, *COLUMNS])
    for key in own:
        if not isinstance(content.get(key), str) or not content[key]:
            raise ValueError(f"{where}: {key} = {content.get(key)!r}: wants text; add it")
    if content["whose"] not in set(Whose):
        raise ValueError(f"{where}: whose = {content['whose']!r}: {closest(content['whose'], list(Whose))}")
    numbers = {key: _number(content[key], key, f"{where}, {key}", claims) for key in COLUMNS if key in content}
    if not numbers:
        raise ValueError(f"{where}: has no number; give one of {', '.join(COLUMNS)}")
    return Row(content["method"], Whose(content["whose"]), table or content["table"], numbers)


def _number(entry: Any, column: str, where: str, claims: Sequence[Claim]) -> Number:
    content = _mapping(entry, where, [field.name for field in fields(Number)])
    for key in ("value", "spread"):
        if key not in content:
            raise ValueError(f"{where}: {key} is missing; add it (spread: null where the paper gives none)")
    value, spread = content["value"], content["spread"]
    if not _is_number(value) or not 0 < value <= 100:
        raise ValueError(f"{where}: value = {value!r}: must be a percentage in (0, 100]")
    if spread is not None and (not _is_number(spread) or not 0 < spread < 100):
        raise ValueError(f"{where}: spread = {spread!r}: must be above 0 points; null where the paper gives none")
    for key in ("claim", "run"):
        if key in content and not (isinstance(content[key], str) and content[key]):
            raise ValueError(f"{where}: {key} = {content[key]!r}: wants a name; leave it out where there is none")
    if "claim" in content and "run" in content:
        raise ValueError(f"{where}: has both claim and run; keep the claim, which names its own run")
    number = Number(
        float(value), None if spread is None else float(spread), content.get("claim", ""), content.get("run", "")
    )
    if number.claim:
        _check_claim(number, measure_of(column), where, claims)
    return number


def _check_claim(number: Number, measure: Measure, where: str, claims: Sequence[Claim]) -> None:
    rules = {claim.id: claim.rule for claim in claims}
    if number.claim not in rules:
        raise ValueError(f"{where}: claim = {number.claim!r} is unknown; {closest(number.claim, list(rules))}")
    rule = rules[number.claim]
    if not isinstance(rule, Absolute):
        raise ValueError(f"{where}: claim = {number.claim!r} judges no number of the paper; name an absolute claim")
    if (rule.value, rule.spread) != (number.value, number.spread):
        raise ValueError(
            f"{where}: value = {number.value}, spread = {number.spread}, but the claim {number.claim!r} says "
            f"{rule.value} and {rule.spread}; mend the one that is not the paper's"
        )
    if rule.measure is not measure:
        raise ValueError(f"{where}: claim = {number.claim!r} is about {rule.measure}; name one about {measure}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _mapping(value: Any, where: str, known: Sequence[str]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} = {value!r}: wants a mapping")
    for key in value:
        if key not in known:
            raise ValueError(f"{where}: {key} is not a key; {closest(str(key), list(known))}")
    return dict(value)
