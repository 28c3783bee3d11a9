"""Trains a classifier on your own images: a folder in, a model out.

    repro fit images/ [--labels 400 | --labelled labels.csv] [--test test/] [--minutes 30] [--out mine]

Classes are the folders in `images/`; images in `images/unlabelled`, or beside the folders, are unlabelled ones. Where
`images/` holds `train` and `test` (or `val`), these are taken. The same command again goes on where it was stopped, or
says that it is finished. Any setting of an experiment can be changed at the end: optim.student.learning_rate=0.1.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import yaml

from repro.config import Config, as_mapping, checked, read_config_file, shortened
from repro.data import FolderData, source_of
from repro.data.folder import IMAGENET_10PERCENT, PARTS
from repro.engine.device import choose_device, set_up_process, worker_pool
from repro.evaluate.classifier import Score, TrainedModel, load_model, save_model, score
from repro.evaluate.evaluate import counted_network
from repro.files import only_writer, remove_folder, write_whole
from repro.plan import compose
from repro.settings import ConfigError, read_yaml
from repro.train.checkpoint import Result, load_result
from repro.train.job import Job, source_hashes
from repro.train.launch import deadline_of, refuse_other_states, train_all
from repro.train.loop import Trainer
from repro.train.storage import Damaged
from repro.verify.statistics import rate_interval

MODEL = "model.pt"
SETTINGS, OPTIONS = "settings.yaml", "options.yaml"


def fit(given: argparse.Namespace) -> int:
    """Prepares, trains, evaluates, and leaves the model; exits as `repro.train.launch` does when it stopped before."""
    options, out = _options(given)
    set_up_process()
    name = out.resolve().name
    with only_writer(f"fit-{name}", f"the model {out}"):
        config = _settings(options, out)
        if source_of(config.data).training_hash([options.seed]) != config.data_hash:
            raise ConfigError(f"{out}: the images or their labels are not those it was begun with; put them back, name "
                              f"another --out, or begin anew: rm -r {out}")  # fmt: skip
        if (out / MODEL).is_file():
            print(f"{out}: finished already; {_said(load_model(out / MODEL).facts)}; to begin anew: rm -r {out}")
            return 0
        job = Job(name, config, out / "state", source_hashes(), deadline_of(config))
        refuse_other_states(job, [[options.seed]])
        status = train_all(job, [[options.seed]])
        if status:
            return status
        result = load_result(job.folder([options.seed]))
        if result is None:
            raise Damaged(f"{job.state} has lost its result; run the same command again")
        facts = _finish(out, config, options, result)
        remove_folder(job.state)
    print(f"{out}: {_said(facts)}\nclassify images with: repro predict {out} <folder> --csv predictions.csv")
    return 0


def _options(given: argparse.Namespace) -> tuple[Options, Path]:
    out = given.out or Path("models") / given.images.resolve().name
    test = str(given.test) if given.test else ""
    return Options(
        str(given.images), test, given.labels, given.labelled, given.method, given.model, given.size, given.minutes,
        given.steps, given.seed, list(given.settings),
    ), out  # fmt: skip


def _settings(options: Options, out: Path) -> Config:
    """Those that the model was begun with, or, at its beginning, those that the options ask for."""
    asked = dict(vars(options))
    if (out / OPTIONS).is_file():
        there = read_yaml(out / OPTIONS)
        other = [f"{key} = {there.get(key)} there, {asked[key]} here" for key in asked if there.get(key) != asked[key]]
        if other:
            raise ConfigError(f"{out} was begun with other options: {'; '.join(other)}; name those to go on, another "
                              f"--out, or begin anew: rm -r {out}")  # fmt: skip
        config = read_config_file(out / SETTINGS)
        source_of(config.data).prepare()
        return config
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"--out = {out}: holds something else than a model; name a folder that is not there yet")
    config = planned(options, out)
    write_whole(out / SETTINGS, yaml.safe_dump(as_mapping(config), sort_keys=False, allow_unicode=True).encode())
    write_whole(out / OPTIONS, yaml.safe_dump(asked, sort_keys=False, allow_unicode=True).encode())
    return config


def _finish(out: Path, config: Config, options: Options, result: Result) -> dict[str, object]:
    """Evaluates the final weights, writes the model and what a person reads about it, and returns the facts."""
    final = result.networks()
    counted = counted_network(result.counted, final)
    network, weights = (f"{counted}, finetuned", result.finetuned) if result.finetuned else (counted, final[counted])
    names = source_of(config.data).class_names()
    found = score(config, options.seed, weights)
    facts: dict[str, object] = {
        "right": found.right if found else None,
        "test_images": found.images if found else 0,
        "environment": result.environment,
    }
    save_model(out / MODEL, TrainedModel(as_mapping(config), names, network, weights, facts))
    header = ",".join(result.rows[-1]) + "\n"
    rows = [",".join(f"{row.get(key, math.nan):.6g}" for key in result.rows[-1]) + "\n" for row in result.rows]
    write_whole(out / "log.csv", (header + "".join(rows)).encode())
    write_whole(out / "README.md", _readme(out, config, network, names, facts, found).encode(errors="replace"))
    return facts


def _said(facts: dict[str, object]) -> str:
    """The accuracy with its interval."""
    right, count = facts["right"], facts["test_images"]
    if not isinstance(right, int) or not isinstance(count, int):
        return "no test images, nothing to evaluate"
    low, high = rate_interval(right, count)
    return (
        f"{100 * right / count:.1f} % of {count} test images right, 95 % interval {100 * low:.1f} to {100 * high:.1f} %"
    )


def _readme(
    out: Path,
    config: Config,
    network: str,
    names: list[str],
    facts: dict[str, object],
    found: Score | None,
) -> str:
    lines = [
        f"# {out.resolve().name}", "",
        f"A classifier of {len(names)} classes: {config.title}, {config.budget.steps:,} steps.", "",
        f"- Labelled images: {config.data.labels:,}.",
        f"- Accuracy: {_said(facts)}.",
        f"- Network: {config.model.name}, {network}; it sees squares of {config.data.shape[-1]} pixels.",
        f"- `{MODEL}`: weights, class names, settings. `{SETTINGS}`: all settings. `log.csv`: losses along training.",
        f"- Use: `repro predict {out} <folder> --csv predictions.csv`", "",
    ]  # fmt: skip
    if found:
        lines += ["| class | test images | right | most often taken for |", "|---|---|---|---|"]
        for k, (name, row) in enumerate(zip(names, found.confusion, strict=True)):
            wrong = max((n, names[j]) for j, n in enumerate(row) if j != k)
            lines.append(f"| {name} | {sum(row)} | {row[k]} | {f'{wrong[1]} ({wrong[0]})' if wrong[0] else '–'} |")
    return "\n".join(lines) + "\n"


_TIMED = 8.0  # seconds of training, after the first steps, by which its speed is told
_FEWEST, _FEW = 200, 1000  # steps: the least that are made, and fewer than which are too few to expect much of
_WIDTHS = {"wide_resnet_10": 1, "resnet50_narrow": 16, "resnet50": 64}  # of the networks that can be named
_ROWS = 40  # of the log


@dataclass(frozen=True)
class Options:
    """What a person asks `fit` for; kept beside the model, so that the same command goes on."""

    images: str
    test: str
    labels: int
    labelled: str
    method: str
    model: str
    size: int
    minutes: float
    steps: int
    seed: int
    settings: list[str]  # key=value


def planned(options: Options, out: Path) -> Config:
    """All settings, once the images have been looked through; batches are no larger than what is there.

    Raises:
        ValueError: when the images or the options are not such that something could be trained.
    """
    cores = os.cpu_count() or 1
    chosen = [f"engine.readers={max(2, min(cores, 16)) if choose_device().type == 'cuda' else 2}"]
    chosen += [f"model={options.model}", f"model.width={_WIDTHS.get(options.model, 2)}"] if options.model else []
    config = compose(f"folder_{options.method}", [*chosen, *options.settings])
    if not config.data.in_files:
        raise ConfigError(f"data.name = {config.data.name}: fit trains on folders; take `data=` out of the settings")
    data = _data(options, cast(FolderData, config.data))
    source_of(data).prepare()
    config = checked(_fitting(replace(config, data=source_of(data).settled()), options.seed))
    given = {text.partition("=")[0] for text in options.settings}
    if options.steps and "budget.steps" not in given:
        config = _over(options.steps, config)
    if options.minutes <= 0:
        raise ConfigError(f"--minutes = {options.minutes}: must be more than 0")
    threads = {config.engine.threads} if "engine.threads" in given or choose_device().type == "cuda" else {1, cores}
    known = options.steps or "budget.steps" in given
    if known and len(threads) == 1:
        return checked(config)
    config, seconds = _fastest(config, threads, options.seed)
    return checked(config if known else _over(_steps_within(options.minutes, seconds), config))


def _data(options: Options, data: FolderData) -> FolderData:
    """Where the images are: `train` and `test` within the folder, or the folder itself and another one."""
    root = Path(options.images).resolve()
    if not root.is_dir():
        raise ConfigError(f"{options.images} is no folder; name the folder with your images")
    inside = {path.name.lower(): path.name for path in root.iterdir() if path.is_dir() and path.name[:1] != "."}
    train, test = data.train, data.test
    if "train" in inside and not inside.keys() - PARTS - {"unlabelled", "unlabeled"}:
        train = inside["train"]
        test = next((inside[part] for part in ("test", "val", "valid", "validation") if part in inside), "")
        print(f"{options.images}: training images in {train}, {f'test images in {test}' if test else 'no test images'}")
    if options.test:
        test = _relative(Path(options.test), root)
    labelled = options.labelled
    if labelled not in {"", IMAGENET_10PERCENT} and Path(labelled).is_file():
        labelled = _relative(Path(labelled), root)
    return replace(data, root=str(root), train=train, test=test, labelled=labelled or data.labelled,
                   labels=options.labels or data.labels, image_size=options.size or data.image_size)  # fmt: skip


def _relative(path: Path, root: Path) -> str:
    whole = path.resolve()
    return str(whole.relative_to(root)) if whole.is_relative_to(root) else str(whole)


def _fitting(config: Config, seed: int) -> Config:
    """Batches that are not larger than the labelled images are many; and the hash of the data."""
    labels, budget, tuning = config.data.labels, config.budget, config.finetune
    return replace(
        config,
        budget=replace(budget, labelled_batch=min(budget.labelled_batch, labels), workers=1),
        finetune=replace(tuning, batch=min(tuning.batch, labels)),
        data_hash=source_of(config.data).training_hash([seed]),
        planned_seeds=str(seed),
    )


def _over(steps: int, config: Config) -> Config:
    """The same training over so many steps: warm-up and ramp keep their share."""
    long = shortened(replace(config, budget=replace(config.budget, shortened_to=steps)))
    budget = replace(long.budget, shortened_to=0, reduced=config.budget.reduced, log_every=max(1, steps // _ROWS))
    return replace(long, budget=budget)


def _fastest(config: Config, threads: set[int], seed: int) -> tuple[Config, float]:
    """With as many of the threads as are fastest here, each timed in a process of its own; and the seconds of a step.

    More threads than there are idle cores wait for each other in every operation, and are slower than one.
    """
    found: dict[int, float] = {}
    for count in sorted(threads):
        workers, context = worker_pool(1)
        with ProcessPoolExecutor(workers, context) as pool:
            tried = replace(config, engine=replace(config.engine, threads=count))
            found[count] = pool.submit(seconds_a_step, tried, seed).result()
    best = min(found, key=lambda count: found[count])
    return replace(config, engine=replace(config.engine, threads=best)), found[best]


def _steps_within(minutes: float, seconds: float) -> int:
    """As many steps as fit into `minutes` on this machine."""
    steps = max(_FEWEST, int(60 * minutes / seconds))
    print(f"{seconds:.2f} s a step here: {steps:,} steps in {minutes:g} minutes", flush=True)
    if steps < _FEW:
        print(
            "NOTE: these are few; more --minutes, a smaller --size, --method uda or a GPU would do better", flush=True
        )
    return steps


def seconds_a_step(config: Config, seed: int) -> float:
    """The mean over some seconds of training, once it runs smoothly."""
    set_up_process(config.engine.threads)
    trainer = Trainer(replace(config, budget=replace(config.budget, log_every=1_000_000)), seed, choose_device())
    trainer.advance()
    begun, made = time.monotonic(), 0
    while not made or (time.monotonic() - begun < _TIMED and made < config.budget.steps - 2):
        trainer.advance()
        made += 1
    return (time.monotonic() - begun) / made
