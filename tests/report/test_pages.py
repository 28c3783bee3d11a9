"""The pages: what they say follows from the numbers, they stay short, their links lead somewhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from pytest_regressions.file_regression import FileRegressionFixture

from repro.report import pages
from repro.report.record import PAGES, Record
from repro.verify.claims import Status, Verdict
from repro.verify.rules import judge
from tests.entry_points import python
from tests.report.cases import ACCURACY, CLAIMS, ROOT, record

RESULTS = ROOT / "results"
MARKDOWN = ["REPORT.md", *(f"{page}.md" for page in PAGES)]
LOGS = {"digits_mpl": {"feedback_gradient_norm": [0.01, 0.02, 0.02, 0.04], "other_gradient_norm": 0.5}}


@cache
def made_up() -> Record:
    """Digits with four seeds; every claim of the setting has a verdict, so that it answers the questions."""
    found = record(logs=LOGS)
    rest = {c.id: Verdict(c.id, Status.INCONCLUSIVE, "", 0.0, -1.0, 1.0, 4, 0.9) for c in CLAIMS
            if c.id in {"digits_over_pseudo_labels", "digits_sign"}}  # fmt: skip
    small = ("digits_pseudo_label", "digits_mpl_reversed")
    runs = dict.fromkeys(small, found.runs["digits_mpl"])
    scores = {name: replace(found.scores["digits_mpl"], name=name) for name in small}
    not_run = {c.id: judge(c, {}) for c in CLAIMS if c.id.startswith("svhn_1k_mpl")}
    return Record(found.runs | runs, found.scores | scores, CLAIMS, not_run | found.verdicts | rest)


@cache
def documents() -> dict[str, str]:
    """Its pages, without figures."""
    return pages.documents(made_up())


def cells(text: str) -> list[str]:
    """All cells of the tables of a page."""
    return [cell.strip() for line in text.splitlines() if line.startswith("|") for cell in line.strip("|").split("|")]


def test_a_small_report(file_regression: FileRegressionFixture) -> None:
    """The report of the made-up record, word for word: change it knowingly."""
    file_regression.check(documents()["REPORT.md"] + "\n\n" + documents()["digits.md"], extension=".md")


def test_the_answers_are_those_of_the_numbers() -> None:
    """UDA's part, MPL minus h = 0, its wrong labels and the size of its gradient stand in the text."""
    text = " ".join(documents()["REPORT.md"].split())

    assert "none of the 32 numbers of the paper has run" in text
    assert "carries it?** UDA's consistency loss (teacher; Handwritten digits, 50 labels)." in text
    assert "| + UDA's consistency loss | teacher | [91.50](runs/digits_uda) | +8.50 [+6.45, +10.55] | 4 |" in text
    assert "Not settled: MPL minus h = 0 is +1.00 [−1.25, +3.25] points of accuracy in the same setting" in text
    assert "The teacher's wrong pseudo labels at the end: −1.00 [−2.30, +0.30] points, so no cure is shown." in text
    assert "Feedback's gradient had 4 % of the norm of the teacher's other gradients (median)." in text
    assert "Held at 10 %" not in text


@pytest.mark.parametrize(("status", "words"), [
    (Status.REPRODUCED, "Feedback helps here:"), (Status.NOT_REPRODUCED, "No gain that would count:"),
    (Status.INCONCLUSIVE, "Not settled:"),
])  # fmt: skip
def test_the_third_answer_follows_the_verdict(status: Status, words: str) -> None:
    """One phrase for each verdict on the claim that compares MPL with h = 0."""
    verdict = replace(made_up().verdicts["digits_feedback"], status=status)
    found = replace(made_up(), verdicts={**made_up().verdicts, "digits_feedback": verdict})

    assert any(words in line for line in pages.verdict_lines(found))


def test_nothing_recorded_is_said_to_be_not_known() -> None:
    """Without a run there are pages all the same: what is claimed, what it would cost, how to run it."""
    texts = pages.documents(record({}))

    assert 3 == " ".join(texts["REPORT.md"].split()).count("Not known yet:")
    assert "96.11 ± 0.07" in texts["cifar10_4k.md"]
    assert "Plans: `svhn_1k` (" in texts["svhn_1k.md"]
    assert len(texts["svhn_1k.md"]) < 4000


def test_every_number_of_an_arm_links_to_its_run() -> None:
    """The accuracy is the link; the network stands beside it."""
    text = documents()["digits.md"]

    assert "| MPL (old - new loss) | student | 4 | [90.00 ± 3.44](runs/digits_mpl) | +1.00 [−1.25, +3.25] |" in text
    assert "| UDA (teacher alone) | teacher | 4 | [91.50 ± 2.05](runs/digits_uda) |" in text


def test_many_claims_are_said_to_make_a_false_pass_likely() -> None:
    """Six judged claims: 1 - 0.975 to the power of 6, 14 %; a p-value stands twice."""
    text = " ".join(documents()["REPORT.md"].split())

    assert "The 6 others are exploratory" in text
    assert "false REPRODUCED would still be 14 %" in text
    assert "0.252 (0.757)" in text  # of MPL over h = 0: the fourth of six, times 3


def test_the_last_screen_is_short_and_says_where_the_report_lies() -> None:
    """At most 25 lines of at most 100 characters: the answers, the counts, the place."""
    lines = pages.verdict_lines(made_up())

    assert len(lines) <= 25
    assert all(len(line) <= pages.WIDTH_OF_LINES for line in lines)
    assert any("89 claims: 2 REPRODUCED" in line for line in lines)
    assert any("results/REPORT.md" in line for line in lines)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_without_unicode_gets_other_characters(encoding: str) -> None:
    """A true minus becomes a hyphen; nothing crashes."""
    lines = pages.verdict_lines(made_up(), encoding)

    assert "\n".join(lines).encode(encoding)
    assert any("[-1.25, +3.25]" in line for line in lines)


def test_the_readme_has_three_rows_with_an_interval_seeds_and_evidence() -> None:
    """A row for each question, short enough for a table; links lead into results/."""
    header, _, *rows = pages.readme_rows(made_up()).split("\n\n")[0].splitlines()

    assert ("| question | answer | change [95 % interval] (points) | seeds | evidence |", 3) == (header, len(rows))
    assert "| +8.50 [+6.45, +10.55] | 4 | [digits_uda](results/runs/digits_uda) |" in rows[1]
    assert "| −1.00 [−2.30, +0.30] | 4 | [digits_mpl](results/runs/digits_mpl) |" in rows[2]
    assert "| No cure is shown: the teacher's wrong pseudo labels, MPL minus h = 0 (same setting) |" in rows[2]
    assert max(map(len, cells("\n".join(rows)))) <= 120


def test_a_command_that_draws_nothing_does_not_load_matplotlib() -> None:
    """The last screen must not wait for it."""
    code = "import sys, repro.report.pages; sys.exit('matplotlib' in sys.modules)"

    assert 0 == python("-c", code).returncode


def test_a_report_that_cannot_be_made_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is made before the first file is written; then each is whole."""
    monkeypatch.setattr(pages, "read_all", lambda *_: record())
    pages.write_report(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}

    def fails(*_: object) -> str:
        raise ValueError("no more")

    monkeypatch.setattr(pages, "as_html", fails)
    with pytest.raises(ValueError, match="no more"):
        pages.write_report(tmp_path)

    assert {"REPORT.md", "index.html", "metrics.json", "digits_attribution.png"} <= {path.name for path in before}
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert 90.0 == json.loads((tmp_path / "metrics.json").read_text())["accuracy %/digits_mpl/student"]


# ------------------------------------------------------------------------------------------------ what is in results/


@pytest.mark.parametrize("name", MARKDOWN)
def test_pages_stay_short(name: str) -> None:
    """20 KB for the report, 15 KB for a page, 30 KB for the three studies; no cell above 120 characters."""
    text = (RESULTS / name).read_text()

    assert len(text.encode()) <= {"REPORT.md": 20_000, "feedback.md": 20_000, "bias.md": 16_000}.get(name, 15_000)
    assert max(map(len, cells(text)), default=0) <= 120


@pytest.mark.parametrize("name", MARKDOWN)
def test_every_link_leads_somewhere(name: str) -> None:
    """Runs, figures, pages and their anchors; and every figure is shown once."""
    text = (RESULTS / name).read_text()
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        place, _, anchor = target.partition("#")
        path = RESULTS / (place or name)
        headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE) if anchor and path.exists() else []
        there = path.exists() and (not anchor or anchor in map(pages.slug, headings))
        lost += [] if there else [target]

    assert [] == lost


def test_every_figure_is_shown_once() -> None:
    """No stale figure lies beside the report."""
    shown = [stem for name in MARKDOWN for stem in re.findall(r"\(figures/(\w+)\.png\)", (RESULTS / name).read_text())]

    assert sorted(shown) == sorted(path.stem for path in (RESULTS / "figures").glob("*.png"))


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROBE = """<script>addEventListener("load", () => { const out = {}; let left = 3;
for (const width of [390, 768, 1280]) { const frame = document.createElement("iframe");
  frame.style = `width:${width}px;height:900px;border:0`; frame.src = "index.html";
  frame.onload = () => { const page = frame.contentDocument, body = page.documentElement;
    const wide = [...page.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > width + 1);
    out[width] = [body.scrollWidth, wide.length && wide[0].outerHTML.slice(0, 80)];
    if (width === 390) { const rows = [...page.querySelectorAll("#claims tbody tr")];
      const seen = () => rows.filter(r => r.getBoundingClientRect().height > 0).length;
      const choose = (name, value) => { const s = page.querySelector(`select[name=${name}]`);
        s.value = value; s.dispatchEvent(new Event("change")); return seen(); };
      out.filters = [seen(), choose("status", ""), choose("status", "NOT_RUN"), choose("page", "svhn_1k")];
      choose("page", ""); choose("status", ""); page.querySelectorAll("#claims th button")[3].click();
      const values = [...page.querySelectorAll("#claims tbody tr")].map(r => +r.cells[3].dataset.sort);
      out.sorted = values.every((v, i) => !i || values[i - 1] <= v);
      const image = page.querySelector("figure img"), widths = [image.width];
      for (const _ of [1, 2]) { image.click(); widths.push(image.width, body.scrollWidth); }
      out.full = [widths[1] === image.naturalWidth, widths[1] > width, widths[2] <= width, widths[3] === widths[0]]; }
    if (!--left) document.body.innerHTML = `<pre id=out>${JSON.stringify(out)}</pre>`; };
  document.body.append(frame); } });</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: apt-get install chromium")
def test_the_browser_filters_and_sorts_and_nothing_overflows(tmp_path: Path) -> None:
    """At 390, 768 and 1,280 pixels no part is wider; claims can be filtered and sorted, figures seen in full size."""
    shutil.copy(RESULTS / "index.html", tmp_path)
    (tmp_path / "probe.html").write_text(f"<!doctype html><body>{PROBE}</body>")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
               "--disable-component-update", "--disable-sync", "--allow-file-access-from-files",
               f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", "--dump-dom"]  # fmt: skip
    command = [str(BROWSER), *options, (tmp_path / "probe.html").as_uri()]
    page = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout  # noqa: S603 - our own

    found = json.loads(re.findall(r'<pre id="out">(.*)</pre>', page)[0].replace("&lt;", "<").replace("&gt;", ">"))
    text = (RESULTS / "verdicts.json").read_text()
    run = [v["claim"] for v in json.loads(text) if v["status"] != "NOT_RUN"]
    svhn = [c.id for c in CLAIMS if c.id.startswith("svhn")]
    assert {"390": 0, "768": 0, "1280": 0} == {k: v[1] for k, v in found.items() if k.isdigit()}  # elements too wide
    assert all(found[width][0] <= int(width) for width in ("390", "768", "1280"))
    assert [len(run), len(CLAIMS), len(CLAIMS) - len(run), len(svhn)] == found["filters"]
    assert found["sorted"]
    assert [True] * 4 == found["full"]  # a click shows a figure in its own size, the next one as before


def test_index_html_needs_nothing_else() -> None:
    """No network, no file beside it; below 3 MB; links to runs and anchors lead somewhere."""
    text = (RESULTS / "index.html").read_text()
    anchors = set(re.findall(r'id="([^"]+)"', text))
    targets = set(re.findall(r'href="([^"]+)"', text))

    assert len(text) < 3_000_000
    assert not re.search(r'(src|href)="(https?:)?//', text)
    assert [] == [target for target in targets if target.startswith("#") and target[1:] not in anchors]
    assert [] == [t for t in targets if not (RESULTS / t.split("#")[0]).exists()]
    assert set(ACCURACY) <= {target.removeprefix("runs/") for target in targets}
