"""Puts the pages together: Markdown from templates, one HTML file of the same pages, figures, metrics.json.

The prose stands in templates/. Nothing here draws before `write_report` asks for it: a command that only prints the
answers never imports Matplotlib.
"""

from __future__ import annotations

import base64
import io
import math
import multiprocessing
import os
import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from repro.files import partly, readable_json, replace_folder, restore_folder, write_whole
from repro.plan import ROOT
from repro.report import doses, tables
from repro.report.tables import BRIEF, NETWORKS, PAGES, Record, signed, signed_interval
from repro.report.verdicts import (
    CONFIRMATORY,
    answers,
    chance_of_false_pass,
    claim_rows,
    metrics,
    needed_runs,
    shown_rule,
    waiting,
)
from repro.results import read_run
from repro.verify.claims import Absolute, Status, read_claims, read_verdicts
from repro.verify.evidence import scores_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from repro.report.figures import Drawn

RESULTS = Path("results")
REPORT_LIMIT, PAGE_LIMIT = 20_000, 15_000  # bytes of REPORT.md and of each page
MOST_FIGURES = 25
WIDTH_OF_LINES, MOST_LINES = 100, 25  # of the last screen
_CONTENTS = "<!-- contents -->"
_ASCII = str.maketrans({"−": "-", "–": "-", "±": "+/-", "×": "x", "≥": ">=", "≤": "<=", "·": "|", "…": "..."})


@dataclass(frozen=True)
class Picture:
    """A drawn figure as files."""

    png: bytes
    svg: bytes


def read_all(root: Path = RESULTS, only: Sequence[str] | None = None, experiments: Path = ROOT) -> Record:
    """What is recorded, recomputed.

    Args:
        root: the folder of results.
        only: the runs that are needed; all of them by default.
        experiments: where the claims stand.

    Raises:
        RecordError: when a record is missing or damaged.
    """
    claims = read_claims(experiments / "claims.yaml")
    verdicts = {verdict.claim: verdict for verdict in read_verdicts(root / "verdicts.json")}
    folders = [folder for folder in sorted((root / "runs").glob("[!.]*")) if folder.is_dir()]
    runs = {folder.name: read_run(folder) for folder in folders if only is None or folder.name in only}
    return Record(runs, scores_of(runs, root / "labels"), claims, verdicts)


def write_report(root: Path = RESULTS) -> list[Path]:
    """Writes REPORT.md, a page for each data set, index.html, metrics.json and the figures, once all of it is made.

    Raises:
        RecordError: when a record is missing or damaged; nothing is written then.
        OSError: when a place cannot be written.
    """
    restore_folder(root / "figures")  # where a kill chose the moment between two renames
    record = read_all(root)
    drawn, pictures = draw(record)
    texts = documents(record, drawn)
    texts["index.html"] = as_html(record, texts, pictures)
    texts["metrics.json"] = readable_json(metrics(record)) + "\n"
    fresh = partly(root / "figures")
    try:
        for key, picture in pictures.items():
            write_whole(fresh / f"{key}.png", picture.png)
            write_whole(fresh / f"{key}.svg", picture.svg)
        if pictures:
            replace_folder(fresh, root / "figures")
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    for name, text in texts.items():
        write_whole(root / name, text.encode())
    return [root / name for name in texts]


def documents(record: Record, drawn: Sequence[Drawn] = ()) -> dict[str, str]:
    """The Markdown pages by the names of their files."""
    rows = claim_rows(record)
    ran = [row for row in rows if row.ran]
    exploratory = sum(not row.confirmatory for row in ran)
    found = {
        "REPORT.md": _render(
            "REPORT.md.j2",
            a=answers(record, rows),
            rows=rows,
            ran=ran,
            exploratory=exploratory,
            chance=chance_of_false_pass(exploratory),
            confirmatory=sum(claim.id.startswith(CONFIRMATORY) for claim in record.claims),
            waiting=waiting(rows),
            figures=[one for one in drawn if not one.page],
        )
    }
    for page, title in PAGES.items():
        mine = [row for row in rows if row.page == page]
        found[f"{page}.md"] = _render(
            "page.md.j2",
            page=page,
            title=title,
            ran=[row for row in mine if row.ran],
            not_run=[row for row in mine if not row.ran],
            numbers=[row for row in mine if row.number],
            one=next((one for one in waiting(mine) if one.page == page), None),
            parts=[_part(record, comparison) for comparison in record.of_page(page)],
            figures=[one for one in drawn if one.page == page],
        )
    return found


def _part(record: Record, comparison: Any) -> dict[str, Any]:
    """What a page says of a comparison."""
    images, again = comparison.page != "two_moons", bool(comparison.again)
    return {
        "comparison": comparison,
        "arms": tables.arm_rows(record, comparison),
        "again": tables.again_rows(record, comparison) if again else [],
        "wrong": tables.wrong_labels(record, comparison) if comparison.reference else [],
        "doses": doses.dose_rows(record, comparison),
        "planted": doses.planted_rows(record, comparison),
        "networks": tables.own_networks(record, comparison) if images and not again else [],
        "same": tables.same_images(record, comparison),
        "selections": tables.selections(record, comparison) if not again else [],
        "from": tables.provenance(record, comparison),
    }


def verdict_lines(record: Record, encoding: str = "utf-8") -> list[str]:
    """The last screen of `make reproduce`: the three answers, the counts, where the report lies.

    Characters that the terminal's encoding lacks are replaced.
    """
    text = _render("lines.txt.j2", a=answers(record, claim_rows(record)))
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, WIDTH_OF_LINES) or [""]]
    return [printable(line, encoding) for line in lines]


def readme_rows(record: Record) -> str:
    """The three generated rows of the README, as a Markdown table."""
    return _render("readme.md.j2", a=answers(record, claim_rows(record))).strip()


def read_for_answers(root: Path = RESULTS) -> Record:
    """The record with those runs alone that the three answers need: seconds instead of a minute."""
    verdicts = {verdict.claim: verdict for verdict in read_verdicts(root / "verdicts.json")}
    return read_all(root, needed_runs(verdicts))


def printable(text: str, encoding: str) -> str:
    """The text with what the encoding lacks replaced: a true minus by a hyphen, anything else by a question mark."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    return text


# ---------------------------------------------------------------------------------------------- drawing

_waiting: dict[str, Figure] = {}
"""Figures by key, which the processes that draw them inherit."""


def draw(record: Record) -> tuple[list[Drawn], dict[str, Picture]]:
    """All figures, drawn side by side: drawing is half of the report's time."""
    import matplotlib as mpl

    mpl.use("agg")
    from repro.report.figures import all_figures

    drawn = all_figures(record)
    if not drawn:
        return [], {}
    _waiting.update({one.key: one.figure for one in drawn})
    workers = max(1, min(os.cpu_count() or 1, len(drawn), 8))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        pictures = dict(zip(_waiting, pool.map(_picture, _waiting), strict=True))
    _waiting.clear()
    return drawn, pictures


def _picture(key: str) -> Picture:
    import matplotlib as mpl
    from PIL import Image

    from repro.report.figures import DPI, STYLE

    png, svg, small = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with mpl.rc_context(STYLE):
        _waiting[key].savefig(png, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": None})
        _waiting[key].savefig(svg, format="svg", dpi=90, bbox_inches="tight", metadata={"Date": None, "Creator": None})
    with Image.open(png) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return Picture(small.getvalue(), _renumbered(svg.getvalue()))


def _renumbered(svg: bytes) -> bytes:
    """The same drawing with the names of its clip paths counted: Matplotlib makes them of places in memory."""
    names = list(dict.fromkeys(re.findall(rb'<clipPath id="(p[0-9a-f]{10})"', svg)))
    numbers = {name: b"clip%d" % number for number, name in enumerate(names)}
    return re.sub(rb"p[0-9a-f]{10}(?=[\")])", lambda found: numbers.get(found[0], found[0]), svg)


# ---------------------------------------------------------------------------------------------- HTML


def as_html(record: Record, texts: Mapping[str, str], pictures: Mapping[str, Picture]) -> str:
    """All pages as one file that needs nothing else; claims can be sorted and filtered."""
    names = {"REPORT": "Report", **PAGES}
    rows = sorted(claim_rows(record), key=lambda row: not row.ran)
    claims = _render("claims.html.j2", rows=rows, statuses={s.value: s.replace("_", " ") for s in Status})
    shown = [
        {"key": key, "title": title, "html": _body(key, texts[f"{key}.md"], claims, pictures)}
        for key, title in names.items()
    ]
    return _render("index.html.j2", pages=shown)


def _body(page: str, text: str, claims: str, pictures: Mapping[str, Picture]) -> str:
    """A Markdown page as HTML: anchors and links of the one file, figures inside it, names of columns in each cell."""
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(re.sub(r"^(The same as one page|\[Report\]\(REPORT\.md\)).*$", "", text, flags=re.MULTILINE))
    heads: list[str] = []
    for token, following in zip(tokens, [*tokens[1:], tokens[-1]], strict=True):
        if token.type == "heading_open":
            token.attrSet("id", f"{page}-{slug(following.content)}")
        if token.type.startswith("heading_") and page != "REPORT":
            token.tag = f"h{int(token.tag[1]) + 1}"
        if token.type == "th_open":
            heads.append(following.content)
        if token.type == "td_open":
            heads.append(heads.pop(0))  # the row's cells turn the list of the columns' names once around
            token.attrSet("data-label", heads[-1])
        if token.type == "table_close":
            heads = []
        for child in token.children or ():
            _inside(child, page, pictures)
    start = next((i for i, token in enumerate(tokens) if token.attrGet("id") == "REPORT-verdicts"), None)
    kinds = [token.type for token in tokens]
    if start is not None and "table_open" in kinds[start:]:  # all claims, in place of those that have run
        first, last = kinds.index("table_open", start), kinds.index("table_close", start)
        tokens[first : last + 1] = [Token("html_block", "", 0, content=claims)]
    html: str = parser.renderer.render(tokens, parser.options, {})
    html = html.replace("<table>", '<div class="wide"><table>').replace("</table>\n", "</table></div>\n")
    return re.sub(
        r"<p>(<img [^>]*>)</p>\s*<p><em>(.*?)</em></p>", r"<figure>\1<figcaption>\2</figcaption></figure>", html
    )


def _inside(child: Any, page: str, pictures: Mapping[str, Picture]) -> None:
    """Turns a link to a page into one to its place in this file, and a figure into its own bytes."""
    if child.type == "link_open":
        href = str(child.attrGet("href"))
        found = re.fullmatch(r"(?:(\w+)\.(?:md|html))?(?:#(.*))?", href)
        if found:
            target = "REPORT" if found[1] == "index" else found[1] or page
            child.attrSet("href", "#" + "-".join(part for part in (target, found[2]) if part))
    if child.type == "image":
        picture = pictures[Path(str(child.attrGet("src"))).stem]
        kind, data = min((("svg+xml", picture.svg), ("png", picture.png)), key=lambda one: len(one[1]))
        child.attrSet("src", f"data:image/{kind};base64,{base64.b64encode(data).decode()}")


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


# ---------------------------------------------------------------------------------------------- templates


def _render(template: str, **values: Any) -> str:
    values = {"pages": PAGES, "contents": _CONTENTS} | values
    text = _environment().get_template(template).render(**values)
    if template.endswith(".html.j2"):
        return text
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    return text.replace(_CONTENTS, "Contents: " + " · ".join(f"[{one}](#{slug(one)})" for one in headings))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("repro.report"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,  # noqa: S701 - Markdown; what goes into HTML is escaped there
    )  # fmt: skip
    environment.filters |= {
        function.__name__: function
        for function in (points, signed, plain, count, listed, paper, source, subject, p_twice, seeds_pair, seeds_span,
                         span, one_line)
    }  # fmt: skip
    environment.filters |= {
        "g": lambda number: f"{number:g}",
        "small": lambda number: f"{number:.2g}",
        "half": lambda half: f" ± {half:.2f}" if math.isfinite(half) else "",
        "p": p_value,
        "rule": shown_rule,
        "network": lambda name: NETWORKS.get(name, name),
        "brief": BRIEF.get,
        "page_title": lambda page: PAGES.get(page, "All data sets"),
        "part": lambda title: title[2:3].upper() + title[3:],
        "seeds": lambda n: "more than affordable" if n is None else str(n),
        "without_brackets": lambda text: re.sub(r" \(.*?\)", "", text),
        "networks_of": lambda rows: [name for name in NETWORKS if any(name in row.means for row in rows)],
        "groupby_kept": kept_groups,
    }
    return environment


def points(found: Any) -> str:
    """A difference or a verdict as `+0.57 [−0.10, +1.24]`; empty for none."""
    if found is None:
        return ""
    mean = found.estimate if hasattr(found, "estimate") else found.mean
    return f"{signed(mean)} {signed_interval(found.low, found.high)}".strip() if mean is not None else ""


def p_value(p: float | None) -> str:
    """A p-value as < 0.001 or with three decimals; empty for none."""
    if p is None or not math.isfinite(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_twice(row: Any) -> str:
    """A p-value and, in brackets, the corrected one; empty for none."""
    p = p_value(row.verdict.p_value if hasattr(row, "verdict") else row.difference and row.difference.p_value)
    return f"{p} ({p_value(row.holm)})" if p else ""


def source(text: str) -> str:
    """Where a claim comes from, without the explanation: `ours` where the paper does not make it."""
    first = re.split("[;,]", text, maxsplit=1)[0]
    return "ours" if first == "none" else first


def subject(says: str) -> str:
    """`MPL reaches 96.11 % on CIFAR-10` -> `MPL`, with what follows the data set."""
    before, _, after = says.partition(" reach")
    extra = [words for words in ("top-5", "before finetuning", "finetuned") if words in after]
    return ", ".join([before.rstrip(","), *extra])


def kept_groups(items: Iterable[Any], key: str) -> list[tuple[Any, list[Any]]]:
    """Items by an attribute, in the order of their first appearance."""
    found: dict[Any, list[Any]] = {}
    for item in items:
        found.setdefault(getattr(item, key), []).append(item)
    return list(found.items())


def seeds_span(rows: Sequence[Any], which: str) -> str:
    """Seeds that a verdict needs: `3 to 14`; more than 100 where no affordable number does."""
    needed = sorted(getattr(row.power, which) or 101 for row in rows if row.power)
    ends = [str(n) if n <= 100 else "more than 100" for n in (*needed[:1], *needed[-1:])]
    return " to ".join(dict.fromkeys(ends)) or "–"


def plain(number: float | None, digits: int) -> str:
    """A number with so many decimals; empty for none."""
    return f"{number:.{digits}f}" if number is not None and math.isfinite(number) else ""


def one_line(text: str) -> str:
    """Text without line breaks."""
    return " ".join(text.split())


def count(number: int, noun: str) -> str:
    """A number and its noun: 1 seed, 2 seeds."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(counts: Mapping[str, int]) -> str:
    """Counts by status in a sentence: 6 REPRODUCED, 3 NOT REPRODUCED."""
    return ", ".join(f"{number} {words}" for words, number in counts.items())


def paper(rule: Absolute) -> str:
    """The paper's number, as it is given."""
    return f"{rule.value:.2f}" if rule.spread is None else f"{rule.value:.2f} ± {rule.spread:.2f}"


def seeds_pair(power: Any) -> str:
    """Seeds if the claim holds and if it does not."""
    if power is None:
        return "–"
    return " / ".join("> 100" if n is None else str(n) for n in (power.confirm, power.refute))


def span(ends: Iterable[float], digits: int) -> str:
    """Two ends as one number or `6.1 to 10.5`."""
    first, last = (f"{end:,.{digits}f}" for end in ends)
    return first if first == last else f"{first} to {last}"
