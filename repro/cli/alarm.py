"""Trains the first tenth of runs with seeds that are not recorded, and says what leaves the recorded seeds' bands.

    python -m repro.cli.alarm [<run> ...] [--plan params.yaml] [--seeds 1000-1002]

For whoever changed something that should change nothing: a broken change is found in minutes, before days are spent.
Nothing is written. The exit status is 4 when there is an alarm. A real training does the same comparison as it goes on
(`ALARM` lines in its log).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from repro.cli.entry import run
from repro.config.compose import PlannedRun, compose, parse_seeds, read_plan
from repro.config.read import ConfigError, closest
from repro.engine import choose_device, set_up_process
from repro.train.alarm import BANDS, Bands, bands_for, read_bands
from repro.train.loop import Trainer

EXIT_ALARM = 4


def main() -> int:
    """Prints one line for each run, and one for each alarm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", help="runs of the plan (default: all that have a band)")
    parser.add_argument("--plan", type=Path, default=Path("params.yaml"), help="the plan file (default: params.yaml)")
    parser.add_argument("--seeds", default="1000-1002", help="to train with (default: 1000-1002)")
    arguments = parser.parse_args()
    planned = _chosen(arguments.runs, arguments.plan)
    alarms = [alarm for one in planned for alarm in _canary(one, parse_seeds(arguments.seeds))]
    return EXIT_ALARM if alarms else 0


def _chosen(names: Sequence[str], plan: Path) -> list[PlannedRun]:
    """The named runs, or all of the plan, that have a band."""
    by_name, known = {planned.name: planned for planned in read_plan(plan)}, read_bands()
    for name in names:
        if name not in by_name:
            raise ConfigError(f"{name} is not a run of {plan}; {closest(name, list(by_name))}")
        if name not in known:
            raise ConfigError(f"{name}: no band in {BANDS}; it takes 5 recorded seeds, trained one by one")
    chosen = [planned for name, planned in by_name.items() if name in (names or known)]
    if not chosen:
        raise ConfigError(f"no run of {plan} has a band in {BANDS}; it takes 5 recorded seeds, trained one by one")
    return chosen


def _canary(planned: PlannedRun, seeds: Sequence[int]) -> list[str]:
    """Alarms of the first tenth of training, each seed by itself and the mean of all."""
    config = compose(planned.experiment, planned.overrides)
    bands = bands_for(planned.name, config)
    if bands is None:
        raise ConfigError(f"{planned.name}: its settings are not those of the recorded runs, so no band applies; "
                          "record it anew, or undo the change of its settings")  # fmt: skip
    set_up_process(config.engine.threads)
    logs = []
    for seed in seeds:
        trainer = Trainer(config, seed, choose_device())
        while trainer.state.step < max(bands.rows):
            trainer.advance()
        logs.append(trainer.rows)
    alarms = _alarms(bands, logs)
    print(f"{planned.name}: {max(bands.rows)} of {config.budget.steps} steps, {len(seeds)} seeds: "
          f"{'as recorded' if not alarms else f'{len(alarms)} ALARMS'}", flush=True)  # fmt: skip
    for alarm in alarms:
        print(f"  {alarm}", flush=True)
    return alarms


def _alarms(bands: Bands, logs: Sequence[Sequence[dict[str, float]]]) -> list[str]:
    """Of each seed by itself, and of their mean, which tells small shifts."""
    found = [alarm for log in logs for alarm in bands.outside(log)]
    mean = [{key: sum(row[key] for row in rows) / len(rows) for key in rows[0]} for rows in zip(*logs, strict=True)]
    return found + [f"mean of {len(logs)} seeds: {alarm}" for alarm in bands.outside(mean, len(logs))]


if __name__ == "__main__":
    run(main)
