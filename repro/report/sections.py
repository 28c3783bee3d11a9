"""One section of the report for each group of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from repro.evaluate.run import EvaluatedRun
from repro.report.again import again_table
from repro.report.arms import Arm, compared_examples
from repro.report.attribution import Step, attribution, attribution_table, waterfall
from repro.report.bias import Bias, bias_sentence, bias_table, biases, not_known
from repro.report.differences import Difference, differences
from repro.report.evidence import sentences
from repro.report.figures_accuracy import forest, learning_curves
from repro.report.figures_bias import confirmation_bias
from repro.report.figures_boundary import decision_regions
from repro.report.figures_feedback import feedback_panels
from repro.report.figures_losses import network_curves, training_losses
from repro.report.figures_sweep import sweeps
from repro.report.groups import Group
from repro.report.networks import network_differences_table, networks_table
from repro.report.on_test_set import ABOUT, on_test_set_table
from repro.report.pictures import Picture, markdown
from repro.report.summary import Evidence
from repro.report.swept import reference_name
from repro.report.tables import arms_table, checkpoints_table, departures_table, differences_table


@dataclass(frozen=True)
class Section:
    """A group's part of the report."""

    heading: str
    markdown: str
    pictures: tuple[Picture, ...]
    evidence: tuple[str, ...]
    summary: Evidence | None = None


def section(group: Group, arms: Sequence[Arm], runs: Mapping[str, Sequence[EvaluatedRun]]) -> Section:
    """Tables and pictures of a group; only a sentence when the arm that it needs has not run.

    Args:
        group: what belongs together.
        arms: its runs.
        runs: all that is recorded, for a group that repeats some of it.
    """
    heading = f"## {group.heading}"
    if group.again:
        parts = [heading, group.intro, again_table(group, arms, runs), _problems(arms)]
        return Section(group.heading, "\n\n".join(part for part in parts if part), (), ())
    needed = f"{group.prefix}{group.needs}"
    if group.needs and not any(arm.name == needed and arm.accuracy for arm in arms):
        there = ", ".join(f"`{arm.name}`" for arm in arms if arm.name != needed)
        why = f"its control `{needed}` (h = 0) has no result, and the others mean nothing without it"
        text = f"Not shown: {why}. Held back: {there}."
        return Section(group.heading, f"{heading}\n\n{text}", (), ())
    compared = differences(group, arms)
    whole = group.judges and group.key != "moons_sweep"
    steps, bias = (attribution(arms), biases(group, arms)) if whole else ([], [])
    pictures = _pictures(group, arms)
    carried = waterfall(group, steps) if steps else None
    networks = network_curves(group, arms) if group.images else None
    parts = [
        heading,
        group.intro,
        arms_table(group, arms),
        _legend_of_table(group),
        _problems(arms),
        *(_attribution(steps, carried) if carried else ()),
        *(markdown(picture) for picture in pictures[:1]),
        "### Differences, paired by seed" if group.reference else "",
        _differences(group, arms, compared),
        *_on_test_set(group, arms),
        *(_bias(bias, arms) if bias else ()),
        not_known(arms) if whole else "",
        *(markdown(picture) for picture in pictures[1:]),
        *(_networks(group, arms, networks) if group.images else ()),
        _checkpoints(arms) if group.judges else "",
        _departures(arms),
    ]
    text = "\n\n".join(part for part in parts if part)
    drawn = tuple(picture for picture in (carried, *pictures, networks) if picture)
    said = [*sentences(group, arms, compared), *([bias_sentence(bias)] if bias else [])]
    wrong = next((picture for picture in pictures if picture.key.endswith("_pseudo_labels")), None)
    summary = Evidence(group, steps, bias, carried, wrong)
    return Section(group.heading, text, drawn, tuple(sentence for sentence in said if sentence), summary)


def _pictures(group: Group, arms: Sequence[Arm]) -> list[Picture]:
    """Of a sweep only its own figures, since one line for each of its runs would tell nothing."""
    if group.key == "moons_sweep":
        return sweeps(group, arms)
    accuracies = (forest, decision_regions, learning_curves, confirmation_bias) if group.judges else ()
    losses = (training_losses,) if group.images else ()
    drawn = [drawer(group, arms) for drawer in (*accuracies, *losses, feedback_panels)]
    return [picture for picture in drawn if picture is not None]


def _attribution(steps: Sequence[Step], picture: Picture) -> list[str]:
    about = (
        "Each part on top of the ones before it, paired by seed. A part's worth may depend on what it is added to; "
        "this is our order: the paper has neither a student without feedback nor averaging."
    )
    return ["### Which part carries it", about, attribution_table(steps), markdown(picture)]


def _on_test_set(group: Group, arms: Sequence[Arm]) -> list[str]:
    found = on_test_set_table(group, arms) if group.reference and group.judges else ""
    return ["### On the same test examples", ABOUT, found] if found else []


def _bias(found: Sequence[Bias], arms: Sequence[Arm]) -> list[str]:
    about = (
        "Does feedback cure confirmation bias? Pseudo labels here are the labelling network's most likely classes for "
        f"{compared_examples(arms)}. *Stay*: of those wrong at one snapshot, the share with the same wrong label at "
        "the next, mean over the second half of training. Differences are paired by seed, to the same training without "
        "feedback."
    )
    return ["### Wrong pseudo labels, with and without feedback", about, bias_table(found)]


def _legend_of_table(group: Group) -> str:
    intervals = "Accuracy of the final weights: mean over seeds ± half its 95 % t interval"
    rates = "; in brackets the exact 95 % interval of a share" if group.good else ""
    return f"{intervals}{rates}."


def _problems(arms: Sequence[Arm]) -> str:
    lines = [f"- `{arm.name}`: {problem}" for arm in arms for problem in arm.problems]
    return "\n".join(["**Refused numbers:**", "", *lines]) if lines else ""


def _differences(group: Group, arms: Sequence[Arm], compared: Sequence[Difference]) -> str:
    if not group.reference:
        return ""
    present = {arm.name for arm in arms if arm.accuracy}
    missing = sorted({reference_name(group, name) for name in present} - present)
    notes = [f"No result of the reference `{name}`, so nothing is compared to it." for name in missing]
    if compared:
        notes.insert(0, differences_table(compared, {arm.name: arm.title for arm in arms}))
        notes.append("p: paired t-test, corrected for the number of rows (Holm 1979).")
        if any(difference.n == 0 for difference in compared):
            notes.append("0 seeds in both: no seed in common, or trained on different data, so nothing is paired.")
    return "\n\n".join(notes)


def _networks(group: Group, arms: Sequence[Arm], picture: Picture | None) -> list[str]:
    """With and without averaging and finetuning; nothing where every arm has one network only."""
    accuracies, gains = networks_table(arms), network_differences_table(arms) if group.judges else ""
    if not accuracies:
        return []
    about = (
        "Test accuracy of the final weights of each network, in %, mean over seeds. *Averaged*: the moving average of "
        "the weights; *finetuned*: after the last stage on the labelled images alone; both of the network that counts. "
        "An arm with a single network has it under *teacher*."
    )
    note = (
        "In points, paired by seed; intervals from two seeds on, not corrected for their number. *Finetuned − not*: "
        "against the weights that finetuning started from, the averaged ones where there are any."
    )
    parts = ["### Networks of each arm", about, accuracies, *([gains, note] if gains else [])]
    return [*parts, *([markdown(picture)] if picture else [])]


def _checkpoints(arms: Sequence[Arm]) -> str:
    text = checkpoints_table(arms)
    intro = (
        "### What choosing the checkpoint by test accuracy would add\n\n**Not for comparison between methods:** every "
        "other number in this report is that of the final weights. *Final* is the network that counts; *median of last "
        "20*: of the checkpoints a thousandth of training, and at least a step, apart at its end, as others report it; "
        "*best on test*: over the snapshots along training. Mean over seeds, in %; *best − final*, the inflation, in "
        "points with its interval."
    )
    return f"{intro}\n\n{text}" if text else ""


def _departures(arms: Sequence[Arm]) -> str:
    recipes: dict[str, list[str]] = {}
    for arm in arms:
        for run in arm.runs[:1]:
            recipes.setdefault(str(run.config.get("recipe", {}).get("name", "none")), []).append(arm.title)
    named = ", ".join(f"`{name}`" for name in sorted(recipes) if name != "none")
    if not named:
        return (
            "These runs follow no published recipe, so no number of the paper is held against them." if recipes else ""
        )
    text = departures_table(arms)
    return f"### Departures from the recipe {named}\n\n{text or 'None.'}"
