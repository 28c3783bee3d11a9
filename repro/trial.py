"""One run, or an arm that you change, outside of any plan: trained, evaluated, compared with another seed by seed.

    repro run digits_mpl method.feedback=none --seeds 0-2
    repro run digits_mpl method.baseline=moving_average --seeds 0-9 --against digits_uda

It is a trial: nothing of it goes to results/, and no claim is judged by it. It lies in
artifacts/trials/<run>,<changes>/, a folder for each seed with its weights and its record. The same command again goes
on where it was; a seed that is done stays, whichever others are named with it.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import re
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import pandas as pd

from repro.config import Config, as_mapping, expected_networks, read_config
from repro.data import source_of
from repro.engine.device import set_up_process, worker_pool
from repro.evaluate.evaluate import evaluate, processes
from repro.files import only_writer
from repro.plan import compose
from repro.results import RUNS, RecordError, Run, joined, read_run, settings_of, write_run
from repro.settings import ConfigError, parse_seeds
from repro.train.checkpoint import Damaged, OtherFormat, load_result, refuse_newest
from repro.train.job import jobs_of
from repro.train.launch import train_all
from repro.train.prepare import with_prepared_data
from repro.train.stopping import die_with_parent
from repro.verify.statistics import in_percent, paired_difference

TRIALS = Path("artifacts/trials")
_RECORD = "record"


def run(arguments: argparse.Namespace) -> None:
    """Trains what is missing, evaluates, prints; exits as `repro train` does when it stopped before the end."""
    seeds = list(parse_seeds(arguments.seeds))
    sides = [side for side in ([arguments.run, *arguments.overrides], arguments.against) if side]
    configs = [compose(name, changes) for name, *changes in sides]
    for (name, *_), config in zip(sides, configs, strict=True):
        if getattr(config.data, "test", None) == "":
            raise ConfigError(f"{name}: data.test is empty: a trial is evaluated, so name a folder of test images")
        if type(config.data) is not type(configs[0].data):
            raise ConfigError(f"--against {name}: is on data.name = {config.data.name}, {sides[0][0]} on "
                              f"{configs[0].data.name}; seeds pair only runs on the same data")  # fmt: skip
    set_up_process()  # before workers are forked
    found: list[Run] = []
    for side, config in zip(sides, [ready(config) for config in with_prepared_data(configs)], strict=True):
        record = _recorded(side[0], config, seeds) if found else None
        found.append(record or trained(side, config, seeds))
        print(f"\n{' '.join(side)}: accuracy in %, {counted(found[-1])} counts\n{_table(found[-1], seeds)}", flush=True)
    if len(found) > 1:
        print(f"\n{difference(found[0], found[1], seeds)}")
    print(f"\nA trial, in {TRIALS / trial_name(*sides[0])}: in no record, and judged by no claim.")


def ready(config: Config) -> Config:
    """The settings as a run is trained; the hash of the data is that of seed 0, so that seeds can be added."""
    source = source_of(config.data)
    return replace(config, data=source.recorded(), data_hash=source.training_hash([0]))


def trial_name(run: str, *changes: str) -> str:
    """The folder of a trial: its run and changes in order of the alphabet, of letters that any file system takes."""
    name = re.sub(r"[^\w.=,+-]", "-", ",".join([run, *sorted(changes)]), flags=re.ASCII)
    return name if len(name) <= 100 else f"{name[:90]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _recorded(name: str, config: Config, seeds: list[int]) -> Run | None:
    """The record of a run where it has these seeds, settings and data; says what it does."""
    folder = RUNS / name
    if not folder.is_dir():
        return None
    found = read_run(folder)
    missing = [str(seed) for seed in seeds if seed not in found.seeds.index]
    if settings_of(found) != settings_of(replace(found, config=as_mapping(config))):
        why = "has other settings"
    elif missing:
        why = f"has no seed {', '.join(missing)}"
    elif not same_data(found, config, seeds):
        why = "is of other data"
    else:
        print(f"{name}: taken from {folder}, which has these seeds with the same settings")
        return found
    print(f"{name}: {folder} {why}, so it is trained here")
    return None


def same_data(record: Run, config: Config, seeds: list[int]) -> bool:
    """Whether the data here are those on which these seeds of a record were trained and evaluated."""
    source = source_of(config.data)
    return all(
        (source.training_hash(group), source.held_out_hash(group))
        == tuple(record.seeds.loc[group[0], ["training_hash", "held_out_hash"]])
        for group in record.groups().values()
        if set(group) & set(seeds)
    )


def trained(side: list[str], config: Config, seeds: list[int]) -> Run:
    """All seeds, trained and evaluated as far as they are not yet; exits with the status of what stopped that."""
    name = trial_name(*side)
    what = f"trial {name}"
    jobs = jobs_of(what, config, TRIALS / name, seeds)
    with only_writer(what, what):
        for job in jobs:
            refuse_newest(job.folder, job.training_made_by, job.folder)
        status = train_all(jobs)
        if status:
            sys.exit(status)
        workers, context = worker_pool(processes(len(jobs)))
        with ProcessPoolExecutor(workers, context, die_with_parent) as pool:
            try:
                folders = list(pool.map(_evaluated, [job.folder for job in jobs]))
            except BrokenProcessPool:
                raise RuntimeError(f"{what}: a process that evaluates was killed; if memory ran out, name fewer "
                                   "--seeds; run the same command again to go on") from None  # fmt: skip
    return joined([replace(read_run(folder), name=side[0], config=as_mapping(config)) for folder in folders])


def _evaluated(folder: Path) -> Path:
    """Where the record of a training lies, which is made if it is not there."""
    set_up_process()
    record = folder / _RECORD
    try:
        result = load_result(folder)
        if result is None:
            raise Damaged(f"{folder} has lost its result")  # noqa: TRY301 - one remedy for all that is damaged
        tested = source_of(read_config(result.config).data).held_out_hash(result.seeds)
        try:
            there = read_run(record).seeds[["finished", "held_out_hash"]].iloc[0].tolist()
        except RecordError:
            there = []  # there is none, or none that is whole
        if there != [result.environment["finished"], tested]:
            write_run(evaluate(_RECORD, result), folder)
        for checkpoint in folder.glob("checkpoint-*.pt"):  # nothing goes on from it any more
            checkpoint.unlink()
    except (Damaged, OtherFormat) as error:
        raise ValueError(f"{error}; train it again: rm -r {folder}, and the same command") from error
    return record


def counted(run: Run) -> str:
    """The network whose accuracy counts."""
    return expected_networks(read_config(run.config))[1]


def _table(run: Run, seeds: list[int]) -> str:
    """A row for each seed and one for their mean, a column for each network."""
    percent = 100 * run.seeds.loc[seeds].filter(regex=r"^accuracy\.")
    percent.columns = percent.columns.str.removeprefix("accuracy.")
    rows = pd.concat([percent, percent.mean().to_frame("mean").T]).rename_axis("seed").reset_index()
    return str(rows.to_string(index=False, float_format="{:.2f}".format))


def difference(first: Run, second: Run, seeds: list[int]) -> str:
    """What is printed of two runs: the mean difference of their counted networks, paired by seed, with its interval."""
    one, other = (
        in_percent(dict(zip(seeds, run.seeds.loc[seeds, f"accuracy.{counted(run)}"], strict=True)))
        for run in (first, second)
    )
    return f"The first minus the second, {counted(first)} minus {counted(second)}, {paired_in_words(one, other)}"


def paired_in_words(one: Mapping[int, float], other: Mapping[int, float]) -> str:
    """The mean difference of accuracies in percent, by seed, with its interval, and each."""
    pair = paired_difference(one, other)
    if math.isfinite(pair.low):
        said = f"95 % interval {pair.low:+.2f} to {pair.high:+.2f} (paired t-test: p = {pair.p_value:.2g})"
    else:
        said = "no interval: " + ("name two seeds or more" if pair.n < 2 else "it is the same for all seeds")
    return (f"{pair.n} seed{'s' if pair.n > 1 else ''}: {pair.mean:+.2f} points, {said}\n"
            f"seed by seed: {'  '.join(f'{value:+.2f}' for value in pair.differences)}")  # fmt: skip
