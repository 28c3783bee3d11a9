"""Two trainings of the same arm, bit for bit; and the table of all comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

BEGIN, END = "<!-- determinism: generated, do not edit -->", "<!-- end of determinism -->"


@dataclass(frozen=True)
class Trained:
    """What a training and its evaluation left, seeds in their order."""

    weights: dict[str, Tensor]  # "network/parameter" to [R, ...]
    rows: tuple[dict[str, float], ...]  # of the log; empty where each seed, or group of seeds, has its own
    predictions: Tensor  # classes of the network that counts, [R, N]
    labels: Tensor  # [R, N]
    hashes: tuple[str, ...]  # of training and test data


def load(path: Path) -> Trained:
    """Reads what a child process saved: one entry for each stack of seeds."""
    found = torch.load(path)
    return Trained(
        weights={
            f"{network}/{key}": torch.cat([one["weights"][network][key] for one in found])
            for network, weights in found[0]["weights"].items()
            for key in weights
        },
        rows=tuple(row for one in found for row in one["rows"]),
        predictions=torch.cat([one["predictions"] for one in found]),
        labels=torch.cat([one["labels"] for one in found]),
        hashes=tuple(one["hash"] for one in found),
    )


def between(one: Trained, other: Trained) -> dict[str, Any]:
    """How they differ.

    `first_row` is the step of the first logged row with another value, None where none has or the logs are means over
    other groups of seeds; `largest_weight_difference` is the largest of any network's parameters or statistics.

    Raises:
        ValueError: when the data differ; nothing else could be compared then.
    """
    if one.labels.shape != other.labels.shape or not torch.equal(one.labels, other.labels):
        raise ValueError("the test data differ; see repro/data and repro/seeding.py")
    same_groups = len(one.hashes) == len(other.hashes)
    if same_groups and one.hashes != other.hashes:
        raise ValueError("the data differ by hash; see repro/data and repro/seeding.py")
    pairs = [(weights.double(), other.weights[key].double()) for key, weights in one.weights.items()]
    weights_differ = max(float((a - b).abs().max()) for a, b in pairs)
    logs = zip(one.rows, other.rows, strict=True) if same_groups else ()
    differing = [row["step"] for row, theirs in logs if repr(row) != repr(theirs)]
    predictions_differ = float((one.predictions != other.predictions).double().mean())
    mine, theirs = (float((t.predictions == t.labels).double().mean()) for t in (one, other))
    return {
        "identical": all(torch.equal(a, b) for a, b in pairs) and not differing and predictions_differ == 0,
        "largest_weight_difference": weights_differ,
        "predictions_differ": predictions_differ,
        "accuracy_difference": theirs - mine,
        "first_row": min(differing) if differing else None,
    }


def table(content: Mapping[str, Any]) -> str:
    """A row for each variant of results/determinism.json, a column for each arm."""
    arms = content["arms"]
    header = ["against the first run", *(arm["title"] for arm in arms.values())]
    lines = [_row(header), "|---" * len(header) + "|"]
    for variant in dict.fromkeys(one["variant"] for one in content["compared"]):
        cells = {one["arm"]: _cell(one) for one in content["compared"] if one["variant"] == variant}
        lines.append(_row([variant, *(cells.get(arm, "–") for arm in arms)]))
    facts = content["environment"]
    measured = (
        f"*Measured on {facts['device_name']} ({facts['kernels']}), PyTorch {facts['torch']}, revision "
        f"{facts['revision'][:12]}; `python -m tests.survival.machines` measures again.*"
    )
    lines += ["", measured]
    lines += ["", f"*Left out: {'; '.join(content['left_out'])}.*"] if content["left_out"] else []
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(one: Mapping[str, Any]) -> str:
    """How an arm differs, in one line."""
    if one["identical"]:
        return "same bits"
    start = "" if one["first_row"] is None else f"from step {one['first_row']:,.0f} on; "
    guesses = (
        f"{100 * one['predictions_differ']:.2f} % of predictions; {_signed(100 * one['accuracy_difference'])} points"
    )
    return f"{start}weights by up to {one['largest_weight_difference']:.2g}; {guesses}"


def _signed(points: float) -> str:
    return f"{points:+.2f}".replace("-", "−") if round(points, 2) else "0"


def with_table(text: str, generated: str) -> str:
    """`text` with the table between its two marks.

    Raises:
        ValueError: when the marks are not there, once each.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"REPRODUCE.md must hold the lines {BEGIN!r} and {END!r}, once each and in this order")
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n{generated}\n{END}{rest.split(END)[1]}"
