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
from repro.config.compose import compose_planned, parse_seeds, read_plan
from repro.config.read import ConfigError, closest
from repro.config.schema import Config
from repro.engine.device import choose_device, set_up_process
from repro.train.alarm import BANDS, Bands, bands_for
from repro.train.loop import Trainer
from repro.train.metrics import NotFinite
from repro.verify.bands import FEWEST

EXIT_ALARM = 4


def main() -> int:
    """Prints one line for each run, and one for each alarm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", help="runs of the plan (default: all that have a band)")
    parser.add_argument("--plan", type=Path, default=Path("params.yaml"), help="the plan file (default: params.yaml)")
    parser.add_argument("--seeds", default="1000-1002", help="to train with (default: 1000-1002)")
    arguments = parser.parse_args()
    chosen, seeds = _chosen(arguments.runs, arguments.plan), parse_seeds(arguments.seeds)
    alarms = [alarm for name, config, bands in chosen for alarm in _canary(name, config, bands, seeds)]
    return EXIT_ALARM if alarms else 0


def _chosen(names: Sequence[str], plan: Path) -> list[tuple[str, Config, Bands]]:
    """The named runs, or all of the plan that have a band, with their settings and bands."""
    by_name = {planned.name: planned for planned in read_plan(plan)}
    for name in names:
        if name not in by_name:
            raise ConfigError(f"{name} is not a run of {plan}; {closest(name, list(by_name))}")
    chosen = [planned for name, planned in by_name.items() if not names or name in names]
    composed = [(planned.name, compose_planned(planned, plan)) for planned in chosen]
    with_band = [(name, config, bands) for name, config in composed if (bands := bands_for(config))]
    without = [planned.name for planned in chosen if planned.name not in {name for name, *_ in with_band}]
    if (names and without) or not with_band:
        raise ConfigError(f"no band in {BANDS} for the settings of {', '.join(without)}: it takes {FEWEST} recorded "
                          "seeds of these settings, trained one by one; record them, or undo the change of the settings"
                          )  # fmt: skip
    return with_band


def _canary(name: str, config: Config, bands: Bands, seeds: Sequence[int]) -> list[str]:
    """Alarms of the first tenth of training, each seed by itself and the mean of all."""
    set_up_process(config.engine.threads)
    logs: list[list[dict[str, float]]] = []
    alarms: list[str] = []
    for seed in seeds:
        trainer = Trainer(config, seed, choose_device())
        try:
            while trainer.state.step < max(bands.rows):
                trainer.advance()
        except NotFinite as error:
            alarms.append(f"seed {seed}: {error}")
        else:
            logs.append(trainer.rows)
    alarms += _alarms(bands, logs)
    print(f"{name}: {max(bands.rows)} of {config.budget.steps} steps, seeds {', '.join(map(str, seeds))}: "
          f"{'as recorded' if not alarms else f'{len(alarms)} ALARMS'}", flush=True)  # fmt: skip
    for alarm in alarms:
        print(f"  {alarm}", flush=True)
    return alarms


def _alarms(bands: Bands, logs: Sequence[Sequence[dict[str, float]]]) -> list[str]:
    """Of each seed by itself, and of their mean, which tells small shifts."""
    found = [alarm for log in logs for alarm in bands.outside(log)]
    if len(logs) < 2:
        return found
    return found + [f"mean of {len(logs)} seeds: {alarm}" for alarm in bands.outside(*logs)]


if __name__ == "__main__":
    run(main)
