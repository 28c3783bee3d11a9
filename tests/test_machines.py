"""Two processes give the same bits; another processor draws the same data; the comparison of machines sees a bit."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.survival.compare import Trained, between, table, with_table
from tests.survival.machines import OUT, PROTOCOL, settle, train
from tests.survival.variants import ARMS, VARIANTS

TINY = {"digits_mpl": "budget.shortened_to=4", "moons_tuned_mpl": "budget.shortened_to=2"}
OLD = next(variant for variant in VARIANTS if variant.says.startswith("an old processor"))


def test_two_processes_give_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, log and predictions of two fresh processes are equal; a third with older arithmetic draws equal data."""
    arms = [
        replace(arm, overrides=(TINY[arm.name], *(["finetune.steps=2"] if arm.data == "digits" else [])))
        for arm in ARMS
        if arm.name in TINY
    ]
    folders = [tmp_path / str(number) for number in range(3)]
    for folder, variant in zip(folders, (*VARIANTS[:2], OLD), strict=True):
        folder.mkdir()
        monkeypatch.chdir(folder)
        for arm in arms:
            settle(arm, variant, folder)

    with ThreadPoolExecutor(2) as pool:  # each checks its data against the hash that this process settled
        once, again, old = pool.map(train, [arms] * 3, (*VARIANTS[:2], OLD), folders)

    for name, one in once.items():
        assert between(one, again[name])["identical"]
        assert one.hashes == old[name].hashes
        assert between(one, old[name])["largest_weight_difference"] < 1e-2


def trained(**changes: object) -> Trained:
    """Two seeds of a network with three weights, two rows of log, four test examples."""
    weights = {"student/w": torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])}
    rows = ({"step": 9, "loss": 0.5, "gap": float("nan")}, {"step": 19, "loss": 0.25, "gap": 1.0})
    labels = torch.tensor([[0, 1, 0, 1]] * 2)
    return replace(Trained(weights, rows, labels.clone(), labels, ("a",)), **changes)


def test_a_comparison_sees_the_last_bit() -> None:
    """One bit of one weight, one digit of the log, or one prediction is enough not to be identical."""
    assert between(trained(), trained())["identical"]
    weights = {"student/w": trained().weights["student/w"].clone()}
    weights["student/w"][1, 2] = torch.nextafter(weights["student/w"][1, 2], torch.tensor(7.0))
    rows = (trained().rows[0], trained().rows[1] | {"loss": 0.25 + 2**-52})
    predictions = trained().predictions.clone()
    predictions[0, 0] = 1

    bit, row, guess = (between(trained(), trained(**{key: value})) for key, value in
                       {"weights": weights, "rows": rows, "predictions": predictions}.items())  # fmt: skip

    assert [False] * 3 == [found["identical"] for found in (bit, row, guess)]
    assert 2**-21 == bit["largest_weight_difference"]
    assert 19 == row["first_row"]
    assert (1 / 8, -1 / 8) == (guess["predictions_differ"], guess["accuracy_difference"])


def test_other_data_are_no_comparison() -> None:
    """Arms that saw other data differ for a reason that no processor explains."""
    with pytest.raises(ValueError, match="the data differ by hash"):
        between(trained(), trained(hashes=("b",)))
    with pytest.raises(ValueError, match="the test data differ"):
        between(trained(), trained(labels=1 - trained().labels))


def test_logs_of_other_groups_of_seeds_are_not_compared() -> None:
    """Rows of a stack are means over its seeds: of another stack they say nothing, weights and predictions do."""
    found = between(trained(), trained(rows=trained().rows * 2, hashes=("b", "c")))

    assert found["identical"]
    assert found["first_row"] is None


def test_what_is_recorded_says_that_two_runs_are_identical() -> None:
    """results/determinism.json has every variant that this version knows, and the table in REPRODUCE.md is its own."""
    content = json.loads(OUT.read_text())
    recorded = {one["variant"] for one in content["compared"]} | {says.split(": no ")[0].split(": this ")[0]
                                                                  for says in content["left_out"]}  # fmt: skip

    assert {variant.says for variant in VARIANTS[1:]} <= recorded
    assert all(one["identical"] for one in content["compared"] if one["variant"] == VARIANTS[1].says)
    assert PROTOCOL.read_text() == with_table(PROTOCOL.read_text(), table(content))


def test_the_first_variant_is_this_machine_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the caller has set for kernels does not reach the variants, and a child that fails is named."""
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    seen = {}
    monkeypatch.setattr("subprocess.run", lambda *_, **given: seen.update(given["env"]) or _Failed())

    with pytest.raises(RuntimeError, match="as it is does not train: boom"):
        train([], VARIANTS[0], tmp_path)

    assert "ATEN_CPU_CAPABILITY" not in seen
    assert os.environ["PATH"] == seen["PATH"]


class _Failed:
    returncode, stderr = 1, "trace\nboom\n"
