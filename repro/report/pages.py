"""Puts the pages together: Markdown from templates, one HTML file of the same pages, figures, metrics.json.

All words stand in templates/. Nothing here draws before `write_report` asks for it: a command that only prints the
answers never imports Matplotlib.
"""

from __future__ import annotations

import base64
import math
import re
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from repro.files import partly, readable_json, replace_folder, restore_folder, write_whole
from repro.plan import Comparison, comparisons
from repro.report import tables
from repro.report.record import (
    CONFIRMATORY,
    HOLDS,
    LEVEL,
    NETWORKS,
    PAGES,
    RESULTS,
    STUDIES,
    ClaimRow,
    Place,
    Record,
    chance_of_false_pass,
    claim_rows,
    counts,
    points,
    read_all,
    signed,
    waiting,
)
from repro.verify.claims import Measure, Ordering, Origin, Status, Verdict, read_verdicts
from repro.verify.statistics import PairedDifference, paired_difference

if TYPE_CHECKING:
    from repro.report.drawing import Drawn, Picture

WIDTH_OF_LINES = 100  # of the last screen
_CONTENTS = "<!-- contents -->"
_ASCII = str.maketrans({"−": "-", "–": "-", "±": "+/-", "×": "x", "≥": ">=", "≤": "<=", "·": "|", "…": "..."})


def write_report(root: Path = RESULTS) -> list[Path]:
    """Writes REPORT.md, a page for each data set, index.html, metrics.json and the figures, once all of it is made.

    A RecordError where a record is missing or damaged; nothing is written then.
    """
    from repro.report.drawing import as_pictures
    from repro.report.figures import all_figures

    restore_folder(root / "figures")  # where a kill chose the moment between two renames
    record = read_all(root)
    drawn = all_figures(record)
    pictures = as_pictures(drawn)
    texts = documents(record, drawn)
    texts["index.html"] = as_html(record, texts, pictures)
    texts["metrics.json"] = readable_json(metrics(record)) + "\n"
    fresh = partly(root / "figures")
    try:
        for key, picture in pictures.items():
            for suffix, content in picture.items():
                write_whole(fresh / f"{key}.{suffix}", content)
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
    exploratory, shown = sum(not row.confirmatory for row in ran), any(row.confirmatory for row in ran)
    told = answers(record, rows)
    found = {
        "REPORT.md": _render(
            "REPORT.md.j2",
            a=told,
            rows=rows,
            ran=ran,
            exploratory=exploratory,
            chance=chance_of_false_pass(exploratory),
            own=[row for row in rows if not row.number and row.claim.by is not Origin.paper],
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
            a=told,
            confirmatory=[row for row in rows if row.confirmatory] if page == "feedback" and shown else [],
            ran=[row for row in mine if row.ran],
            not_run=[row for row in mine if not row.ran],
            numbers=[row for row in mine if row.number],
            one=next(iter(waiting(mine)), None),
            parts=[_part(record, comparison) for comparison in record.of_page(page)],
            figures=[one for one in drawn if one.page == page],
        )
    return found


def _part(record: Record, comparison: Comparison) -> dict[str, Any]:
    """What a page says of a comparison; where recorded seeds were trained again, only how they compare."""
    if comparison.again:
        return {"comparison": comparison, "again": tables.again(record, comparison)}
    doses, planted = tables.doses(record, comparison), tables.planted(record, comparison)
    full = not doses and not planted
    return {
        "comparison": comparison,
        "arms": tables.arms(record, comparison),
        "missing": 0 if full else sum(not record.has(run) for run in comparison.runs.values()),
        "wrong": tables.wrong_labels(record, comparison) if full else [],
        "doses": doses,
        "planted": planted,
        "networks": tables.networks(record, comparison) if full and comparison.page != "two_moons" else [],
        "selections": tables.selections(record, comparison),
        "last": tables.selections(record, comparison, "last_checkpoints"),
        "from": tables.provenance(record, comparison),
    }


def verdict_lines(record: Record, encoding: str = "utf-8") -> list[str]:
    """The last screen of `make reproduce`: the three answers, the counts, where the report lies.

    Characters that the terminal's encoding lacks are replaced: a true minus by a hyphen, others by a question mark.
    """
    text = _render("lines.txt.j2", a=answers(record, claim_rows(record)))
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    return [part for line in text.splitlines() for part in textwrap.wrap(line, WIDTH_OF_LINES) or [""]]


def readme_rows(record: Record) -> str:
    """The three generated rows of the README, as a Markdown table."""
    return _render("readme.md.j2", a=answers(record, claim_rows(record))).strip()


def read_for_answers() -> Record:
    """The record with those runs alone that the three answers need: seconds instead of a minute."""
    verdicts = {verdict.claim: verdict for verdict in read_verdicts()}
    return read_all(only=needed_runs(verdicts))


# ---------------------------------------------------------------------------------------------- answers


ANSWERING = {
    "cifar10_small": ("cifar10_small_uda_over_supervised", "cifar10_small_feedback"),
    "digits_long": ("digits_long_over_uda", "digits_long_feedback"),
    "digits": ("digits_uda_over_supervised", "digits_feedback"),
}
"""Settings that answer which part carries the result, the best first, and the claims that must have run for it.

In `digits` the student is still behind its teacher when training ends; five times as long, it has caught up.
"""
ALONE = "moons_paper_feedback_teaches"
BOTH = ("student_average", "student_finetuned", "teacher_average")
"""Networks of which studies 1 and 2 are put together; the first one counts."""
SOFT = ("cifar10_dose_soft_no_feedback", "cifar10_dose_mpl_no_feedback")
"""Runs without feedback that differ in the student's pseudo labels: soft, and drawn."""
PLANTED = {
    "moons_planted": "two moons",
    "digits_planted_pair": "digits, a pair",
    "digits_planted_random": "digits, random",
    "cifar10_planted_pair": "CIFAR-10, a pair",
    "cifar10_planted_random": "CIFAR-10, random",
}
PLANTED_ARMS = ("mpl", "mpl_held", "exact_held", "feedback_alone", "exact_alone")
"""Of which it is said in how many settings they clearly put more right; the first three beside labels."""


def answers(record: Record, rows: Sequence[ClaimRow]) -> dict[str, Any]:
    """What the verdicts and the recorded runs say to the three questions; templates/answers.j2 has the words."""
    setting = best_setting(record.verdicts)
    arms = ("mpl", "mpl_no_feedback", "mpl_held")
    mpl, without, held = (record.counted(setting.runs.get(arm, "") if setting else "") for arm in arms)
    known = setting if record.has(mpl.run) and record.has(without.run) else None
    steps = tables.attribution(record, known) if known else []
    gains = {step.number.gain.mean: step for step in steps if step.number.gain and step.number.gain.low > 0}
    pair = (mpl.run, without.run)
    compares = [row for row in rows if row.claim.runs == pair and isinstance(row.claim.rule, Ordering)]
    wrong = tables.wrong_labels(record, known) if known else []
    return {
        "numbers": [row for row in rows if row.number],  # of the paper
        "orderings": [row for row in rows if not row.number and row.claim.by is Origin.paper],
        "counts": counts(row.verdict for row in rows),  # all claims, by status
        "setting": known,  # that answers the other two questions; all that follows is of it
        "steps": steps,
        "carried": gains[max(gains)] if gains else None,  # the step with the largest gain that is clearly above zero
        "feedback": record.paired(mpl, without) if known else None,  # MPL minus h = 0, on the networks that count
        "place": mpl if known else None,
        "verdict": next(iter(compares), None),  # on the claim that compares the two
        "held": record.paired(held, without) if known and record.has(held.run) else None,  # at a tenth, minus h = 0
        "wrong": next((row for row in wrong if row.arm == "mpl"), None),  # pseudo labels, against h = 0
        "size": tables.feedback_size(record, known, "mpl") if known else None,
        "held_size": tables.feedback_size(record, known, "mpl_held") if known else None,
        "whole": record.paired(steps[-1].place, steps[0].place) if steps else None,  # MPL minus supervised learning
        "finetuned": record.paired(*(Place(one.run, "student_finetuned") for one in (mpl, without))) if known else None,
        "both": {network: gain for network in BOTH if (gain := _both(record, network))},
        "soft": record.paired(*map(record.counted, SOFT)),
        "sign_rows": (rows_of_signs := tables.signs(record)),
        "signs": _signs(rows_of_signs),
        "alone": next((row for row in rows if row.claim.id == ALONE and row.verdict.estimate is not None), None),
        "planted": _planted(record),
    }


def _both(record: Record, network: str) -> PairedDifference | None:
    """MPL minus h = 0 in studies 1 and 2 on CIFAR-10, whose settings are the same and whose seeds are not."""
    every: list[float] = []
    for setting in ("cifar10_small", "cifar10_dose"):
        pair = record.paired(*(Place(f"{setting}_{arm}", network) for arm in ("mpl", "mpl_no_feedback")))
        if not pair:
            return None
        every += pair.differences
    return paired_difference(dict(enumerate(every)), dict.fromkeys(range(len(every)), 0.0))


def _signs(rows: Sequence[tables.Sign]) -> dict[str, str]:
    """In how many settings feedback is clearly better than with the other sign: `1 of 5`, by form; empty for none."""
    found = {}
    for arm in dict.fromkeys(row.arm for row in rows):
        mine = [row for row in rows if row.arm == arm]
        found[arm] = f"{sum(row.holm < LEVEL and _gain(row) > 0 for row in mine)} of {len(mine)}"
    return found if found.keys() == tables.SIGNS.keys() else {}


def _planted(record: Record) -> dict[str, Any]:
    """What feedback does to wrong labels that were planted, where `PLANTED_ARMS` have run; empty where none has.

    An arm clearly puts more right where its p is below 5 % after Holm's correction: `1 of 3` settings. Beside it, of
    all forms and doses of feedback beside labels the one with the largest gain, and Mixup in the same setting.
    """
    found = {}
    for setting, name in PLANTED.items():
        comparison = comparisons()[setting]
        gains = {row.arm: row for row in tables.planted(record, comparison) if row.number.gain}
        if gains.keys() >= set(PLANTED_ARMS) & comparison.arms.keys():
            found[name] = gains
    if not found:
        return {}
    clearly = {}
    for arm in PLANTED_ARMS:
        rows = [gains[arm] for gains in found.values() if arm in gains]
        better = sum(row.holm < LEVEL and _gain(row) > 0 for row in rows)
        clearly[arm] = f"{better} of {len(rows)}"
    beside = [(name, row) for name, gains in found.items() for row in gains.values()
              if tables.feeds_back_beside_labels(record, row)]  # fmt: skip
    name, most = max(beside, key=lambda one: _gain(one[1]))
    return {"clearly": clearly, "most": most, "name": name, "mixup": found[name].get("mixup_no_feedback")}


def _gain(row: tables.Row) -> float:
    return row.number.gain.mean if row.number.gain else math.nan


def best_setting(verdicts: Mapping[str, Verdict]) -> Comparison | None:
    """The first setting in `ANSWERING` whose claims have run."""
    ran = {name for name, verdict in verdicts.items() if verdict.status is not Status.NOT_RUN}
    return next((comparisons()[setting] for setting, claims in ANSWERING.items() if ran.issuperset(claims)), None)


def needed_runs(verdicts: Mapping[str, Verdict]) -> list[str]:
    """The runs that the answers are computed from, besides the verdicts."""
    setting = best_setting(verdicts)
    wanted = ("supervised", "uda", "mpl_no_feedback", "mpl", "mpl_held")
    found = [run for arm, run in setting.runs.items() if arm in wanted] if setting else []
    signs = {*tables.SIGNS, *tables.SIGNS.values()}
    dosed = [one for one in comparisons().values() if one.setting.endswith("_dose")]
    found += [*SOFT, *(run for one in dosed for arm, run in one.runs.items() if arm in signs)]
    return found + [run for setting in PLANTED for run in comparisons()[setting].runs.values()]


def metrics(record: Record) -> dict[str, Any]:
    """Mean accuracy in % by run and network, seeds, verdicts by status: flat and sorted, for `dvc metrics diff`."""
    found: dict[str, Any] = {}
    for run, scores in record.scores.items():
        for measure in Measure:
            for network, shares in scores.measured(measure).items():
                if shares:
                    share = np.mean([*shares.values()])
                    found |= {f"{measure} %/{run}/{network}": round(100 * float(share), 4), f"seeds/{run}": len(shares)}
    by_status = Counter(verdict.status for verdict in record.verdicts.values())
    return dict(sorted((found | {f"verdicts/{status}": by_status[status] for status in Status}).items()))


# ---------------------------------------------------------------------------------------------- HTML


def as_html(record: Record, texts: Mapping[str, str], pictures: Mapping[str, Picture]) -> str:
    """All pages as one file that needs nothing else; claims can be sorted and filtered."""
    rows = sorted(claim_rows(record), key=lambda row: not row.ran)
    claims = _render("claims.html.j2", rows=rows, statuses={s.value: s.replace("_", " ") for s in Status})
    bodies = {page: _body(page, texts[f"{page}.md"], claims, pictures) for page in ("REPORT", *PAGES)}
    return _render("index.html.j2", bodies=bodies)


def _body(page: str, text: str, claims: str, pictures: Mapping[str, Picture]) -> str:
    """A Markdown page as HTML: anchors and links of the one file, figures inside it, names of columns in each cell."""
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(re.sub(r"^(With filters: |\[Report\]\(REPORT\.md\)).*$", "", text, flags=re.MULTILINE))
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
        found = re.fullmatch(r"(?:(\w+)\.(?:md|html))?(?:#(.*))?", str(child.attrGet("href")))
        if found:
            target = "REPORT" if found[1] == "index" else found[1] or page
            child.attrSet("href", "#" + "-".join(part for part in (target, found[2]) if part))
    if child.type == "image":
        kind, data = min(pictures[Path(str(child.attrGet("src"))).stem].items(), key=lambda one: len(one[1]))
        mime = {"svg": "svg+xml"}.get(kind, kind)
        child.attrSet("src", f"data:image/{mime};base64,{base64.b64encode(data).decode()}")


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


# ---------------------------------------------------------------------------------------------- templates


def _render(template: str, **values: Any) -> str:
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
    environment.globals |= {
        "pages": PAGES,
        "networks": NETWORKS,
        "studies": STUDIES,
        "contents": _CONTENTS,
        "holds": HOLDS,
    }
    environment.filters |= {
        "points": points,
        "signed": signed,
        "plain": plain,
        "p": p_value,
        "p_holm": lambda p, holm: f"{p_value(p)} ({p_value(holm)})" if p_value(p) else "",
        "source": source,
        "subject": subject,
        "span": span,
        "count": lambda number, noun: f"{number} {noun}" if number == 1 else f"{number} {noun}s",
        "by_status": lambda rows: counts(row.verdict for row in rows),
        "listed": lambda counts: ", ".join(f"{number} {words}" for words, number in counts.items()),
        "one_line": lambda text: " ".join(text.split()),
        "network": lambda name: NETWORKS.get(name, name),
    }
    return environment


def plain(number: float | None, digits: int) -> str:
    """A number with so many decimals; empty for none."""
    return f"{number:.{digits}f}" if number is not None and math.isfinite(number) else ""


def p_value(p: float | None) -> str:
    """A p-value as < 0.001 or with three decimals; empty for none."""
    return "< 0.001" if p is not None and p < 0.001 else plain(p, 3)


def source(text: str) -> str:
    """Where a claim comes from, without the explanation: `ours` where the paper does not make it."""
    first = re.split("[;,]", text, maxsplit=1)[0]
    return "ours" if first == "none" else first


def subject(says: str) -> str:
    """`MPL reaches 96.11 % on CIFAR-10` -> `MPL`, with what follows the data set."""
    before, _, after = says.partition(" reach")
    extra = [words for words in ("top-5", "before finetuning", "finetuned") if words in after]
    return ", ".join([before.rstrip(","), *extra])


def span(ends: Iterable[float], digits: int) -> str:
    """Two ends as one number or `6.1 to 10.5`."""
    first, last = (f"{end:,.{digits}f}" for end in ends)
    return first if first == last else f"{first} to {last}"
