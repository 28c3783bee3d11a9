"""How numbers are written: shares as %, differences in points with a sign, a dash for what is not known."""

from __future__ import annotations

import math
from collections.abc import Sequence

NONE = "–"


def percent(share: float, digits: int = 1) -> str:
    """A share in [0, 1] in %, without the unit: 0.985 -> 98.5."""
    return f"{100 * share:.{digits}f}" if math.isfinite(share) else NONE


def signed(number: float, digits: int = 2) -> str:
    """A number with its sign, true minus included: -0.5 -> −0.50; zero has none."""
    if not math.isfinite(number):
        return NONE
    text = f"{number:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]


def plain(number: float, digits: int = 2) -> str:
    """A number with a true minus."""
    return f"{number:.{digits}f}".replace("-", "−") if math.isfinite(number) else NONE


def percent_interval(low: float, high: float, digits: int = 1) -> str:
    """Bounds of a share, in %."""
    return f"[{percent(low, digits)}, {percent(high, digits)}]"


def signed_interval(low: float, high: float, digits: int = 2) -> str:
    """Bounds of a difference; a dash where there are none."""
    known = math.isfinite(low) and math.isfinite(high)
    return f"[{signed(low, digits)}, {signed(high, digits)}]" if known else NONE


def signed_with_interval(mean: float, low: float, high: float) -> str:
    """A difference and its bounds: +0.57 [−0.10, +1.24]; of one seed, or without spread: +0.57, no interval."""
    if math.isfinite(mean) and not math.isfinite(low):
        return f"{signed(mean)}, no interval"
    return f"{signed(mean)} {signed_interval(low, high)}"


def p_value(p: float) -> str:
    """A p-value as < 0.001 or with three decimals."""
    if not math.isfinite(p):
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_phrase(p: float) -> str:
    """A p-value within a sentence: p < 0.001, p = 0.034."""
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def count(number: int, noun: str) -> str:
    """A number and its noun: 1 seed, 2 seeds."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(names: Sequence[str]) -> str:
    """Names within a sentence: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def cell(text: str) -> str:
    """Text as one cell of a Markdown table."""
    return " ".join(text.replace("|", "\\|").split())


def table(header: list[str], rows: list[list[str]], right: int = 0) -> str:
    """A Markdown table; the last `right` columns are aligned to the right."""
    left = len(header) - right
    rule = ["---"] * left + ["---:"] * right
    lines = [header, rule, *[[cell(text) for text in row] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
