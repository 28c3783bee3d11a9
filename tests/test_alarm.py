"""Early alarm: bands of recorded seeds spare honest ones and flag broken ones; settings decide which band applies."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from repro.config.read import read_config
from repro.config.schema import Config
from repro.evaluate.run import EvaluatedRun
from repro.train.alarm import Bands, Expected, bands_as_text, bands_for, read_bands, settings_digest
from repro.verify.bands import FALSE_ALARMS, bands_from, bands_of
from tests.verify_cases import MPL, config, folder

STEPS = [50, 100, *range(150, 1001, 50)]


def log(seed: int, shift: float = 0.0) -> pd.DataFrame:
    """A log whose loss falls, with noise of the seed's own; `noise_floor` is always 0, `mask_rate` 0 for most seeds."""
    rng = np.random.default_rng(seed)
    loss = np.exp(-np.array(STEPS) / 500 + rng.normal(0, 0.1, len(STEPS)) + shift)
    feedback = rng.normal(0, 1e-3, len(STEPS))
    mask = np.where(rng.random(len(STEPS)) < 0.1, 0.01, 0.0)
    return pd.DataFrame({"step": STEPS, "uda_loss": loss, "feedback": feedback, "noise_floor": 0.0, "mask_rate": mask,
                         "feedback_positive": (feedback > 0).astype(float)})  # fmt: skip


def recorded(seeds: int, **changes: Any) -> list[EvaluatedRun]:
    """Folders of so many seeds with such logs."""
    return [replace(folder("mpl", seed, 900, config(MPL, **changes)), metrics=log(seed)) for seed in range(seeds)]


def rows(frame: pd.DataFrame) -> list[dict[str, float]]:
    """The log as training has it."""
    return [{str(key): float(value) for key, value in row.items()} for row in frame.to_dict("records")]


def bands(seeds: int = 30) -> Bands:
    """Bands of so many seeds."""
    found = bands_from(recorded(seeds))
    assert found is not None
    return found


def test_honest_seeds_are_spared_at_the_stated_rate() -> None:
    """Of 1,000 fresh seeds with normal noise one is expected outside; five would be far too many."""
    of_thirty = bands()

    flagged = sum(bool(of_thirty.outside(rows(log(seed)))) for seed in range(1000, 2000))

    assert flagged <= 5 * 1000 * FALSE_ALARMS


def test_few_seeds_flag_no_more_honest_ones() -> None:
    """With ten recorded seeds the bands are wider, not less honest."""
    flagged = 0
    for start in range(0, 1650, 11):
        found = bands_from([replace(run, metrics=log(start + run.seeds[0])) for run in recorded(10)])
        assert found is not None
        flagged += bool(found.outside(rows(log(start + 10))))

    assert flagged <= 2  # of 150; 0.2 expected


def test_a_shifted_loss_is_flagged_at_the_first_row() -> None:
    """A loss e^0.7 times as large lies seven standard deviations off."""
    alarms = bands().outside(rows(log(2000, shift=0.7)))

    assert alarms[0].startswith("uda_loss = ")
    assert "at step 50 is outside" in alarms[0]
    assert "30 recorded seeds" in alarms[0]


def test_the_mean_of_several_seeds_tells_smaller_shifts() -> None:
    """A shift of 2.5 deviations hides in single seeds and not in the mean of nine."""
    of_thirty = bands()
    logs = [rows(log(3000 + seed, shift=0.25)) for seed in range(9)]

    assert of_thirty.outside(*logs)
    assert not all(of_thirty.outside(one) for one in logs)


def test_what_is_zero_by_construction_is_held_to_it() -> None:
    """A noise floor that was 0 for every seed may not be anything else; a share that is 0 for some is not compared."""
    of_thirty = bands()
    broken = log(5).assign(noise_floor=1e-3)

    assert "noise_floor" in of_thirty.outside(rows(broken))[0]
    assert not of_thirty.outside(rows(log(5).assign(noise_floor=1e-7, mask_rate=0.9)))
    assert {"uda_loss", "feedback", "noise_floor"} == set(of_thirty.rows[50])


def test_only_the_first_tenth_is_compared() -> None:
    """A run is flagged early or not at all: later rows have no band."""
    assert {50, 100} == set(bands().rows)


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
def test_what_is_no_number_is_outside(value: float) -> None:
    """NaN, infinity, and 0 where all seeds were positive."""
    assert bands().outside([{"step": 50, "uda_loss": value, "feedback": 0.0, "noise_floor": 0.0}])


def test_a_metric_that_is_missing_is_outside() -> None:
    """A loss that is no longer logged is a change."""
    assert "uda_loss = nan" in bands().outside([{"step": 50, "feedback": 0.0, "noise_floor": 0.0}])[0]


def test_too_few_or_unlike_seeds_have_no_band() -> None:
    """Nine seeds; seeds of other settings; stacked seeds, whose log is a mean; settings of another version."""
    ten = recorded(10)

    assert bands_from(recorded(9)) is None
    assert bands_from([*ten, *recorded(11, optim__average_decay=0.5)[10:]]) is None
    assert bands_from([replace(run, seeds=[run.seeds[0], 99]) for run in ten]) is None
    assert bands_from([replace(run, config=run.config | {"gone": 1}) for run in ten]) is None
    assert set(bands_of({"few": recorded(3), "many": recorded(11)})) == {"many"}


def test_bands_survive_the_file(tmp_path: Path) -> None:
    """What is written is read, to four digits of the spread."""
    path = tmp_path / "bands.json"
    path.write_text(bands_as_text({"mpl": bands()}))

    found = read_bands(path)["mpl"]

    assert bands().rows.keys() == found.rows.keys()
    for step, row in bands().rows.items():
        for metric, expected in row.items():
            assert pytest.approx((expected.mean, expected.deviation), rel=1e-3) == (
                found.rows[step][metric].mean, found.rows[step][metric].deviation)  # fmt: skip
            assert expected.log == found.rows[step][metric].log


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """The remedy is in the message; no file at all means no bands."""
    path = tmp_path / "bands.json"
    assert {} == read_bands(path)
    path.write_text('{"mpl": {"rows": {"50": {"loss": [1.0]}}}}')
    with pytest.raises(ValueError, match="make verify"):
        read_bands(path)


def test_a_band_applies_to_its_settings_alone(tmp_path: Path) -> None:
    """Other settings, no band; another name, engine, title or planned seeds, the same band; that of most seeds."""
    path = tmp_path / "bands.json"
    path.write_text(bands_as_text({"few": bands(10), "mpl": bands(), "others": bands(12)}))

    def settings(**changes: Any) -> Config:
        return read_config(config(MPL, **changes))

    found = bands_for(settings(), path)
    assert found is not None
    assert (30, bands().digest()) == (found.seeds, found.digest())
    assert bands_for(settings(optim__average_decay=0.5), path) is None
    assert settings_digest(settings()) == settings_digest(
        replace(settings(), title="x", data_hash="y", planned_seeds="0")
    )
    assert settings_digest(settings()) == settings_digest(read_config(config(MPL) | {"engine": {"threads": 2}}))


def test_bounds_are_in_the_metrics_own_unit() -> None:
    """Two standard deviations of 0.5 about log 1: from 1/e to e; without a log, from -1 to 1."""
    assert pytest.approx((1 / math.e, math.e)) == Expected(0.0, 0.5, log=True).bounds(2)
    assert (-1.0, 1.0) == Expected(0.0, 0.5, log=False).bounds(2)


@pytest.mark.parametrize(
    ("value", "seeds", "flagged"), [(2.2, 1, False), (2.3, 1, True), (1.4, 4, False), (1.5, 4, True)]
)
def test_the_band_of_a_new_run_is_a_prediction_interval(value: float, seeds: int, flagged: bool) -> None:
    """Two quantiles: sqrt(1 + 1/4) deviations for one seed, sqrt(1/4 + 1/4) for the mean of four; four recorded."""
    four = Bands("", 4, 2.0, {50: {"feedback": Expected(0.0, 1.0, log=False)}})

    assert flagged == bool(four.outside(*[[{"step": 50, "feedback": value}]] * seeds))


def test_means_are_taken_where_the_band_is() -> None:
    """Of losses e^-2 and e^2 the mean on the logarithmic scale is 1, in the middle; their plain mean is e^1.3."""
    narrow = Bands("", 100, 2.0, {50: {"uda_loss": Expected(0.0, 0.5, log=True)}})
    low, high = ([{"step": 50, "uda_loss": math.exp(x)}] for x in (-2.0, 2.0))

    assert not narrow.outside(low, high)
    assert narrow.outside(high, high)
    assert narrow.outside([{"step": 50, "uda_loss": 0.0}], high)
