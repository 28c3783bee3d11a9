"""Recorded seeds trained again, and held against their records: `repro verify --retrain`.

    repro verify --retrain 3                          three recorded seeds at random, of data that come along
    repro verify --retrain digits_mpl:4 digits_uda:0  these

Another processor, thread count or version rounds otherwise, and training enlarges that: a seed then ends like another
one of the run. So a seed is not as recorded where its accuracy is further from the recorded one than `SPREADS`
deviations of the run's seeds, and at least `LEAST` points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from secrets import SystemRandom

from repro.config import read_config
from repro.data import source_of
from repro.engine.device import set_up_process
from repro.results import Run, read_runs
from repro.settings import ConfigError, closest
from repro.train.prepare import with_prepared_data
from repro.trial import counted, ready, same_data, trained
from repro.verify.statistics import spread

SPREADS, LEAST = 4.0, 1.0
"""Deviations of the recorded seeds, and points."""


@dataclass(frozen=True)
class Held:
    """One recorded seed, or a group of stacked ones, beside the same trained again."""

    equal: float  # share of the predictions of the network that counts
    points: float  # largest difference of accuracy of a seed, new minus recorded
    bound: float  # points; a seed further away is not as recorded
    as_recorded: bool  # whether other arithmetic explains the difference


def retrain(wanted: Sequence[str]) -> int:
    """Prints a line for each; 1 where any is not as recorded."""
    set_up_process()  # before workers are forked
    runs = read_runs()
    chosen = [part for word in wanted for part in _chosen(word, runs)]
    seconds = sum(float(runs[name].seeds.loc[group, "seconds"].sum()) for name, group in chosen)
    print(f"{len(chosen)} to train again; when recorded they took {seconds:,.0f} s", flush=True)
    wrong = 0
    for name, group in chosen:
        held = against_record(runs[name], group)
        wrong += not held.as_recorded
        said = "the same predictions" if held.equal == 1 else f"{100 * held.equal:.2f} % of the predictions equal"
        which = f"seed {group[0]}" if len(group) == 1 else f"seeds {group[0]} to {group[-1]}"
        print(f"{name} {which}: {said}, accuracy {held.points:+.2f} points (bound ± {held.bound:.2f}): "
              f"{'as recorded' if held.as_recorded else 'NOT AS RECORDED'}", flush=True)  # fmt: skip
    return 1 if wrong else 0


def _chosen(word: str, runs: Mapping[str, Run]) -> list[tuple[str, list[int]]]:
    """`3` for so many at random, `run:seed` for the group of that seed."""
    name, _, seed = word.partition(":")
    if name not in runs:
        shipped = {name: run for name, run in runs.items() if source_of(read_config(run.config).data).shipped}
        groups = [(name, group) for name, run in shipped.items() for group in run.groups().values()]
        if word.isdecimal() and 0 < int(word) <= len(groups):
            return SystemRandom().sample(groups, int(word))
        raise ConfigError(f"--retrain {word}: wants a number up to {len(groups)}, or run:seed of a recorded run; "
                          f"{closest(name, list(runs))}")  # fmt: skip
    found = [group for group in runs[name].groups().values() if seed in map(str, group)]
    if not found:
        raise ConfigError(f"--retrain {word}: {name} has no seed {seed or '(none named)'}; its seeds are "
                          f"{', '.join(map(str, runs[name].seeds.index[:20]))}")  # fmt: skip
    return [(name, found[0])]


def against_record(run: Run, group: Sequence[int]) -> Held:
    """Trains and evaluates a group of seeds with the recorded settings."""
    (config,) = with_prepared_data([read_config(run.config)])
    seeds = list(group)
    if not same_data(run, config, seeds):
        raise ValueError(f"{run.name}: the data here are not those of the record (hash differs); take the files of the "
                         "data set's home")  # fmt: skip
    return compared(run, trained([run.name, "again"], ready(config), seeds), seeds)


def compared(recorded: Run, again: Run, seeds: Sequence[int]) -> Held:
    """The network that counts, of these seeds."""
    network = counted(recorded)
    ours, theirs = (run.predictions(network)[run.rows(seeds)] for run in (again, recorded))
    column = f"accuracy.{network}"
    new, old = (run.seeds[column].loc[list(seeds)].to_numpy(float) for run in (again, recorded))
    points = float(max(100 * (new - old), key=abs))
    deviation = spread((100 * recorded.seeds[column]).tolist())
    bound = max(LEAST, SPREADS * deviation) if math.isfinite(deviation) else LEAST
    return Held(float((ours == theirs).mean()), points, bound, abs(points) <= bound)
