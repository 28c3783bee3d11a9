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
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import yaml

from repro.config import Config, as_mapping, lookup, read_config, read_config_file, shortened
from repro.data import FolderData, source_of
from repro.data.layout import IMAGENET_10PERCENT, by_folders, listed, parts_of, printable
from repro.engine.device import choose_device, set_up_process, worker_pool
from repro.evaluate.classifier import MODEL, Score, TrainedModel, load_model, save_model, score
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

SETTINGS, OPTIONS = "settings.yaml", "options.yaml"


def fit(given: argparse.Namespace) -> int:
    """Prepares, trains, evaluates, and leaves the model; exits as `repro.train.launch` does when it stopped before."""
    out = given.out or Path("models") / given.images.resolve().name
    options = _options(given)
    set_up_process()
    name = out.resolve().name
    with only_writer(f"fit-{name}", f"the model {out}"):
        config = _settings(given, options, out)
        if source_of(config.data).training_hash([given.seed]) != config.data_hash:
            raise ConfigError(f"{out}: the images or their labels are not those it was begun with; put them back, name "
                              f"another --out, or begin anew: rm -r {out}")  # fmt: skip
        if (out / MODEL).is_file():
            print(f"{out}: finished already; {_said(load_model(out / MODEL).facts)}; to begin anew: rm -r {out}")
            return 0
        job = Job(name, config, out / "state", source_hashes(), deadline_of(config))
        refuse_other_states(job, [[given.seed]])
        status = train_all(job, [[given.seed]])
        if status:
            return status
        result = load_result(job.folder([given.seed]))
        if result is None:
            raise Damaged(f"{job.state} has lost its result; run the same command again")
        facts = _finish(out, config, given.seed, result)
        remove_folder(job.state)
    print(f"{out}: {_said(facts)}\nclassify images with: repro predict {out} <folder> --csv predictions.csv")
    return 0


_OPTIONS = ("images", "test", "labels", "labelled", "method", "model", "size", "minutes", "steps", "seed", "settings")
_ALSO = {"data.test": "test", "data.labels": "labels", "data.labelled": "labelled", "data.image_size": "size",
         "method": "method", "method.name": "method", "model": "model", "model.name": "model", "budget.steps": "steps",
         "budget.shortened_to": "steps"}  # fmt: skip
"""Settings, and the options that say the same."""


def _options(given: argparse.Namespace) -> dict[str, Any]:
    """What a person asks for, kept beside the model, so that the same command goes on; what is left out is filled in.

    Raises:
        ConfigError: naming two that contradict each other, or one that is impossible.
    """
    for path in filter(None, (given.images, given.test, given.out)):
        if any("\ud800" <= character <= "\udfff" for character in str(path.resolve())):
            raise ConfigError(f"{printable(path)}: its name is no text in UTF-8, as settings are; give it another one")
    pairs = [("--minutes", given.minutes, "--steps", given.steps or None)]
    for key, value in _changes(given.settings).items():
        option = _ALSO.get(key, "settings")
        pairs.append((f"--{option}", getattr(given, option) or None if key in _ALSO else None, key, value))
        pairs.append(("--minutes", given.minutes if option == "steps" else None, key, value))
        if key == "data.root" and given.images.resolve() != Path(value).resolve():
            pairs.append(("images", given.images, key, value))
        if key in {"data_hash", "planned_seeds"}:
            raise ConfigError(f"{key} = {value}: is filled by fit; leave it out, and name a seed by --seed")
    for option, here, key, there in pairs:
        if None not in (here, there) and (str(here) != str(there) or option == "--minutes"):
            raise ConfigError(f"{option} = {here} and {key} = {there} contradict each other; leave one out")
    given.minutes, given.seed = 30.0 if given.minutes is None else given.minutes, given.seed or 0
    for option, least, most in (("minutes", 0, 1e6), ("steps", -1, 1e9), ("labels", -1, 1e9), ("seed", -1, 1e9 - 1)):
        if not least < getattr(given, option) <= most:
            raise ConfigError(f"--{option} = {getattr(given, option)}: must be more than {least}, up to {most:,.0f}")
    asked = {key: getattr(given, key) for key in _OPTIONS} | {"method": given.method or "uda"}
    return {key: str(value or "") if key in {"images", "test"} else value for key, value in asked.items()}


def _changes(settings: list[str]) -> dict[str, str]:
    """Settings by their dotted keys, as texts."""
    pairs = [text.lstrip("+~").partition("=") for text in settings]
    found = {key: value.strip("'\"") for key, _, value in pairs}
    twice = [key for key, _, value in pairs if found[key] != value.strip("'\"")]
    if twice:
        raise ConfigError(f"{twice[0]} is set to {found[twice[0]]} and to something else; leave one out")
    return found


def _settings(given: argparse.Namespace, asked: dict[str, Any], out: Path) -> Config:
    """Those that the model was begun with, or, at its beginning, those that the options ask for."""
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
    config = planned(given)
    try:
        write_whole(out / SETTINGS, yaml.safe_dump(as_mapping(config), sort_keys=False, allow_unicode=True).encode())
        write_whole(out / OPTIONS, yaml.safe_dump(asked, sort_keys=False, allow_unicode=True).encode())
    except OSError as error:
        raise ConfigError(f"--out = {out}: cannot be written ({error.strerror}); name another folder") from None
    return config


def _finish(out: Path, config: Config, seed: int, result: Result) -> dict[str, object]:
    """Evaluates the final weights, writes the model and what a person reads about it, and returns the facts."""
    final = result.networks()
    counted = counted_network(result.counted, final)
    network, weights = (f"{counted}, finetuned", result.finetuned) if result.finetuned else (counted, final[counted])
    names = source_of(config.data).class_names()
    found = score(config, seed, weights)
    facts: dict[str, object] = {
        "right": found.right if found else None,
        "test_images": found.images if found else 0,
        "environment": result.environment,
    }
    levels = getattr(source_of(config.data).training_set(seed).unlabelled, "levels", None)
    save_model(out / MODEL, TrainedModel(as_mapping(config), names, network, weights, facts, levels))
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
        names = [printable(name).replace("|", "\\|") for name in names]
        lines += ["| class | test images | right | most often taken for |", "|---|---|---|---|"]
        for k, (name, row) in enumerate(zip(names, found.confusion, strict=True)):
            wrong = max((n, names[j]) for j, n in enumerate(row) if j != k)
            lines.append(f"| {name} | {sum(row)} | {row[k]} | {f'{wrong[1]} ({wrong[0]})' if wrong[0] else '–'} |")
    return "\n".join(lines) + "\n"


_TIMED = 8.0  # seconds of training, after the first steps, by which its speed is told
_FEWEST, _FEW = 200, 1000  # steps: the least that are made, and fewer than which are too few to expect much of
_WIDTHS = {"wide_resnet_10": 1, "resnet50_narrow": 16, "resnet50": 64}  # of the networks that can be named
_ROWS = 40  # of the log


def planned(given: argparse.Namespace) -> Config:
    """All settings, once the images have been looked through; batches are no larger than what is there.

    Raises:
        ValueError: when the images or the options are not such that something could be trained.
    """
    cores = os.cpu_count() or 1
    chosen = [f"engine.readers={max(2, min(cores, 16)) if choose_device().type == 'cuda' else 2}"]
    chosen += [f"model={given.model}", f"model.width={_WIDTHS.get(given.model, 2)}"] if given.model else []
    chosen += [f"data.image_size={given.size}"] if given.size else []
    changes = _changes(given.settings)
    if changes.get("data.labels", "").isdecimal():  # batches are fitted to it
        given.labels = int(changes["data.labels"])
    method = given.method or changes.get("method") or changes.get("method.name") or "uda"
    said = {"method", "method.name", *(["model"] if given.model else []), *(["data.labels"] if given.labels else [])}
    chosen += [text for text in given.settings if text.lstrip("+~").partition("=")[0] not in said]
    composed = config = compose(f"folder_{method}", chosen)
    if not config.data.in_files:
        raise ConfigError(f"data.name = {config.data.name}: fit trains on folders; take `data=` out of the settings")
    data = _data(given, cast(FolderData, config.data), changes)
    source_of(data).prepare()
    config = _fitting(replace(config, data=source_of(data).settled()), given.seed)
    held = [key for key in changes if key in {"data.train", "data.test", "data.labelled"} or key not in _ALSO]
    config = _holding(held, composed, config)
    if given.steps:
        config = _holding(held, composed, _over(given.steps, config))
    threads = {config.engine.threads} if "engine.threads" in changes or choose_device().type == "cuda" else {1, cores}
    known = given.steps or {"budget.steps", "budget.shortened_to"} & changes.keys()
    if known and len(threads) == 1:
        return config
    config, seconds = _fastest(config, threads, given.seed)
    return config if known else _holding(held, composed, _over(_steps_within(given.minutes, seconds), config))


def _holding(keys: list[str], composed: Config, config: Config) -> Config:
    """The settings as fitted to images and steps, but for those that a person set.

    Raises:
        ConfigError: when they are not possible together.
    """
    mapping, asked = as_mapping(config), as_mapping(composed)
    for key in keys:
        above, _, name = key.rpartition(".")
        part = lookup(mapping, above) if above else mapping
        if isinstance(part, dict) and name in part and not isinstance(part[name], dict) and key != "data.classes":
            part[name] = lookup(asked, key)
    return read_config(mapping)


def _data(given: argparse.Namespace, data: FolderData, changes: Mapping[str, str]) -> FolderData:
    """Where the images are: `train` and `test` within the folder, or the folder itself and another one."""
    root = given.images.resolve()
    if not root.is_dir():
        raise ConfigError(f"{printable(given.images)} is no folder; name the folder with your images")
    labelled = given.labelled
    if labelled not in {"", IMAGENET_10PERCENT} and Path(labelled).is_file():
        labelled = _relative(Path(labelled), root)
    test = _relative(given.test, root) if given.test else data.test
    data = replace(data, root=str(root), test=test, labelled=labelled or data.labelled, labels=given.labels)
    if "data.train" in changes:
        return data
    train, found, passed = parts_of(root, by_folders(data), bool(test))
    data = replace(data, train=train, test=test or found)
    if train != "." or found or passed:
        where = f"training images in {train}, {f'test images in {data.test}' if data.test else 'no test images'}"
        print(f"{given.images}: {where}{f'; passed over: {listed(passed)}' if passed else ''}", flush=True)
    return data


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
