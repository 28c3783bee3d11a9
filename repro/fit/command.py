"""Trains a classifier on your own images: a folder in, a model out.

    repro fit images/ [--labels 400 | --labelled labels.csv] [--test test/] [--minutes 30] [--out mine]

Classes are the folders in `images/`; images in `images/unlabelled`, or beside the folders, are unlabelled ones. Where
`images/` holds `train` and `test` (or `val`), these are taken. The same command again goes on where it was stopped, or
says that it is finished. Any setting of an experiment can be changed at the end: optim.student.learning_rate=0.1.

With `--backbone`, a linear probe on a pretrained network comes first; training starts from it, and the better one of
the two on labelled images that both have not seen is kept. `--compare uda mpl` fits several methods, seed by seed.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml

from repro.config import Config, as_mapping, laid_over, lookup, read_config, read_config_file
from repro.data import FolderData, source_of
from repro.data.folder import Folder
from repro.data.layout import IMAGENET_10PERCENT, by_folders, listed, parts_of, printable
from repro.engine.device import choose_device, set_up_process, worker_pool
from repro.evaluate.predict import Predictor
from repro.files import only_writer, remove_folder, sweep, unique_name, write_whole
from repro.fit.outcome import PROBE, finish, in_words, start_from_probe, start_of
from repro.fit.saved import DESCRIPTION, Classifier
from repro.models import Pretrained
from repro.models.pretrained import named
from repro.plan import compose
from repro.settings import ConfigError, parse_seeds, read_yaml
from repro.train.checkpoint import Damaged, load_result, seconds_spent
from repro.train.job import jobs_of
from repro.train.kept import counted
from repro.train.launch import refuse_other_states, train_all
from repro.train.loop import Trainer
from repro.trial import paired_in_words
from repro.verify.statistics import mean_interval

SETTINGS, OPTIONS, STATE = "settings.yaml", "options.yaml", "state"


def fit(given: argparse.Namespace) -> int:
    """Prepares, trains, evaluates, and leaves the model; exits as `repro.train.launch` does when it stopped before."""
    if given.compare:  # of each fit that it calls, it is an empty list
        return compare(given)
    out = given.out or Path("models") / given.images.resolve().name
    options = _options(given)
    set_up_process()
    name = out.resolve().name
    with only_writer(f"fit-{unique_name(out)}", f"the model {out}"):
        config, notes = _settings(given, options, out)
        if source_of(config.data).training_hash([given.seed]) != config.data_hash:
            raise ConfigError(f"{out}: the images or their labels are not those it was begun with; put them back, name "
                              f"another --out, or begin anew: rm -r {out}")  # fmt: skip
        result, state = None, out / STATE
        if (out / DESCRIPTION).is_file():
            print(f"{out}: finished already; {in_words(Classifier.load(out).facts)}; to begin anew: rm -r {out}")
            remove_folder(state)  # where the command that finished it was killed before it did
            return 0
        if isinstance(config.model, Pretrained):
            start_of(config, out)
        given.begun -= seconds_spent(state / f"seed-{given.seed}")  # by commands that stopped
        if notes.get(_TRAINS, True):
            reserve = notes.get(_RESERVE)
            ends = math.inf if reserve is None else given.begun + 60 * given.minutes - reserve
            (job,) = jobs = jobs_of(name, config, state, [given.seed], ends)
            refuse_other_states(jobs, jobs)
            status = train_all(jobs)
            if status:
                return status
            result = load_result(job.folder)
            if result is None:
                raise Damaged(f"{job.state} has lost its result; run the same command again")
        facts = finish(out, config, given.seed, result, given.begun, given.method if _compared(given) else "")
        remove_folder(state)
    print(f"{out}: {in_words(facts)}\nclassify images with: repro predict {out} <folder> --csv predictions.csv")
    return 0


def compare(given: argparse.Namespace) -> int:
    """Fits each method with each seed, which draws labels and start, and prints accuracies and paired differences.

    Each fit has the minutes that are asked for. What is finished stays; a fit that stopped gives its exit status.
    """
    methods = list(dict.fromkeys(given.compare))
    if len(methods) < 2:
        raise ConfigError(f"--compare = {methods[0]}: wants two methods or more, such as: --compare probe uda mpl")
    if given.method or given.seed is not None:
        raise ConfigError("--compare: names the methods, and --seeds the seeds; leave --method and --seed out")
    out, seeds = given.out or Path("models") / given.images.resolve().name, list(parse_seeds(given.seeds or "0-2"))
    percent: dict[str, dict[int, float]] = {method: {} for method in methods}
    minutes: dict[str, list[float]] = {method: [] for method in methods}
    for seed in seeds:
        for method in methods:
            place = out / f"{method}-{seed}"
            changed = {"compare": [], "method": method, "seed": seed, "out": place, "begun": time.monotonic()}
            status = fit(argparse.Namespace(**vars(given) | changed))
            if status:
                return status
            facts = Classifier.load(place).facts
            tested = facts["on"] == "test"
            if not tested and method not in facts["set_aside"]:
                raise ConfigError(f"{place}: has neither test images nor labels to set aside, so nothing compares; "
                                  "name a folder of --test images")  # fmt: skip
            right, count = (facts["right"], facts["images"]) if tested else facts["set_aside"][method]
            percent[method][seed] = 100 * right / count
            minutes[method].append(facts["minutes"])
    print(f"\n{out}: {len(seeds)} seeds, {count:,} {'test images' if tested else 'images set aside'}")
    for method in methods:
        values = list(percent[method].values())
        mean, low, high = mean_interval(values)
        interval = f", 95 % interval {low:.1f} to {high:.1f}" if math.isfinite(low) else ""
        print(f"{method:12} {mean:5.1f} %{interval}, {float(np.mean(minutes[method])):.1f} minutes")
    for method in methods[1:]:
        print(f"{method} minus {methods[0]}, {paired_in_words(percent[method], percent[methods[0]])}")
    return 0


_RESERVE = "seconds_to_evaluate"
_TRAINS = "trains"
"""In the file of options: what of the minutes is kept for what comes after training, where steps are not set; whether
there is training, which a probe alone has none of."""

_OPTIONS = ("images", "test", "labels", "labelled", "method", "model", "size", "minutes", "steps", "seed", "settings",
            "backbone", "weights")  # fmt: skip
_INSTEAD = {"data.root": "the folder of images", "data.test": "--test", "data.labels": "--labels",
            "data.labelled": "--labelled", "data.image_size": "--size", "method": "--method", "method.name": "--method",
            "model": "--model", "model.name": "--model", "budget.steps": "--steps", "budget.shortened_to": "--steps",
            "planned_seeds": "--seed"}  # fmt: skip
"""Settings that fit has an option for, or fills by one: each is said in one way."""


def _options(given: argparse.Namespace) -> dict[str, Any]:
    """What a person asks for, kept beside the model, so that the same command goes on; what is left out is filled in.

    Raises:
        ConfigError: naming two that contradict each other, or one that is impossible.
    """
    for path in filter(None, (given.images, given.test, given.out)):
        if any("\ud800" <= character <= "\udfff" for character in str(path.resolve())):
            raise ConfigError(f"{printable(path)}: its name is no text in UTF-8, as settings are; give it another one")
    _refuse_out_of_place(given)
    for key, value in _changes(given.settings).items():
        if key in _INSTEAD:
            raise ConfigError(f"{key} = {value}: is said by an option of fit; leave it out, and name {_INSTEAD[key]}")
        if key == "data_hash":
            raise ConfigError(f"{key} = {value}: is filled by fit; leave it out")
    given.minutes, given.seed = 30.0 if given.minutes is None else given.minutes, given.seed or 0
    given.method = given.method or "uda"
    for option, least, most in (("minutes", 0, 1e6), ("steps", -1, 1e9), ("labels", -1, 1e9), ("seed", -1, 1e9 - 1)):
        if not least < getattr(given, option) <= most:
            raise ConfigError(f"--{option} = {getattr(given, option)}: must be more than {least}, up to {most:,.0f}")
    asked, paths = {key: getattr(given, key) for key in _OPTIONS}, {"images", "test", "weights"}
    return {key: str(value or "") if key in paths else value for key, value in asked.items()}


def _refuse_out_of_place(given: argparse.Namespace) -> None:
    """What contradicts another option, or is for a comparison, or for a pretrained network, alone."""
    for one, other in (("minutes", "steps"), ("backbone", "model")):
        here, there = getattr(given, one), getattr(given, other)
        if here is not None and here != "" and there:
            raise ConfigError(f"--{one} = {here} and --{other} = {there} contradict each other; leave one out")
    if given.seeds and not _compared(given):
        raise ConfigError(f"--seeds = {given.seeds}: are those of a comparison, --compare; a single fit has a --seed")
    if given.backbone == "auto" and given.weights:
        raise ConfigError(f"--backbone = auto and --weights = {given.weights} contradict each other: auto has weights "
                          "of its own; name the network that the file is of")  # fmt: skip
    if not given.backbone and (given.weights or given.method == PROBE):
        what = f"--weights = {given.weights}" if given.weights else f"--method = {PROBE}"
        raise ConfigError(f"{what}: wants the name of a pretrained network: --backbone NAME, or --backbone auto")


def _changes(settings: list[str]) -> dict[str, str]:
    """Settings by their dotted keys, as texts."""
    pairs = [text.lstrip("+~").partition("=") for text in settings]
    found = {key: value.strip("'\"") for key, _, value in pairs}
    twice = [key for key, _, value in pairs if found[key] != value.strip("'\"")]
    if twice:
        raise ConfigError(f"{twice[0]} is set to {found[twice[0]]} and to something else; leave one out")
    return found


def _settings(given: argparse.Namespace, asked: dict[str, Any], out: Path) -> tuple[Config, Mapping[str, Any]]:
    """Those that the model was begun with, or, at its beginning, those that the options ask for; and notes on both."""
    if (out / OPTIONS).is_file():
        try:
            there = dict(read_yaml(out / OPTIONS))
            config = read_config_file(out / SETTINGS) if (out / SETTINGS).exists() else None
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{out}: {OPTIONS} or {SETTINGS} is damaged ({error}); begin anew: rm -r {out}") from None
        other = [f"{key} = {there.get(key)} there, {asked[key]} here" for key in asked if there.get(key) != asked[key]]
        if other:
            raise ConfigError(f"{out} was begun with other options: {'; '.join(other)}; name those to go on, another "
                              f"--out, or begin anew: rm -r {out}")  # fmt: skip
        if config:
            sweep(out)
            source_of(config.data).prepare()
            return config, there
    elif {path.name for path in out.glob("[!.]*")} - {STATE}:
        raise ConfigError(f"--out = {out}: holds something else than a model; name a folder that is not there yet")
    sweep(out)
    config, notes = planned(given, out)
    try:
        for name, content in ((OPTIONS, asked | notes), (SETTINGS, as_mapping(config))):
            write_whole(out / name, yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())
    except OSError as error:
        raise ConfigError(f"--out = {out}: cannot be written ({error.strerror}); name another folder") from None
    return config, notes


_FINETUNED = 0.1  # of the minutes, at most, for finetuning
_PICTURES = 4.0  # seconds for what a person looks at, and to write it
_EVALUATED = 32  # images by which the time to evaluate one is told
_TIMED = 8.0  # seconds of training, after the first steps, by which its speed is told; it is told again all along
_FEW = 1000  # steps, fewer than which are too few to expect much of a network that starts at random
_FEW_FROM_PROBE = 100  # the same of one that starts from a probe, which is kept unless training betters it
_WIDTHS = {"wide_resnet_10": 1, "resnet50_narrow": 16, "resnet50": 64}  # of the networks that can be named
_SET_ASIDE = 0.2  # of the labelled images, where there is no other estimate, or two to choose from
_FIRST_SIZE = 128  # pixels that a pretrained network sees at first: at 224 a step takes three times as long
_GENTLE = [f"optim.{role}.{what}" for role in ("student", "teacher")
           for what in ("learning_rate=0.003", "clip_norm=1.0", "weight_decay=0.0001")]  # fmt: skip
"""Of training that starts from a pretrained network."""
_SMALL = ["budget.labelled_batch=16", "budget.unlabelled_batch=16"]
"""Of the same on a CPU, where few steps fit: more of them, with fewer images each, do better (UDA, one seed)."""


def planned(given: argparse.Namespace, out: Path) -> tuple[Config, dict[str, Any]]:
    """All settings, once the images have been looked through; batches are no larger than what is there.

    With them notes for the file of options. A probe leaves its head in `out`.

    Raises:
        ValueError: when the images or the options are not such that something could be trained.
    """
    cores, on_gpu = os.cpu_count() or 1, choose_device().type == "cuda"
    chosen = [f"engine.readers={max(2, min(cores, 16)) if on_gpu else 2}"]
    chosen += [f"model={given.model}", f"model.width={_WIDTHS.get(given.model, 2)}"] if given.model else []
    chosen += ["model=pretrained", "~model.width", "engine.channels_last=true", *_GENTLE] if given.backbone else []
    chosen += _SMALL if given.backbone and not on_gpu else []
    chosen += [f"data.image_size={given.size}"] if given.size else []
    method = "uda" if given.method == PROBE else given.method  # whose settings are then not used
    composed = config = compose(f"folder_{method}", [*chosen, *given.settings])
    changes = _changes(given.settings)
    if not config.data.in_files:
        raise ConfigError(f"data.name = {config.data.name}: fit trains on folders; take `data=` out of the settings")
    data = _data(given, cast(FolderData, config.data), changes)
    if given.backbone:
        named(given.backbone, given.weights, 2)  # what is wrong with it is said before the images are looked through
    source_of(data).prepare()
    data = replace(source_of(data).settled(), set_aside=_set_aside(data, given, changes))
    config = _fitting(replace(config, data=data), given.seed)
    config = _holding(changes, composed, config)
    if given.steps:
        config = _holding(changes, composed, laid_over(config, given.steps))
    probed = 0.0
    if given.backbone:
        config, probed = start_from_probe(config, given, out / STATE, 0 if given.size else _FIRST_SIZE)
    if given.method == PROBE:
        return config, {_TRAINS: False}
    threads = {config.engine.threads} if "engine.threads" in changes or on_gpu else {1, cores}
    if given.steps and len(threads) == 1:
        return config, {}
    config, seconds, evaluated = _fastest(config, threads, given.seed, min(_TIMED, 2 * given.minutes),
                                          given.begun + 60 * given.minutes / 2)  # fmt: skip
    if given.steps:
        return config, {}
    tuned = seconds * config.finetune.batch / (3 * config.budget.unlabelled_batch)  # MPL's step makes three such passes
    most = int(_FINETUNED * 60 * given.minutes / tuned)
    tuning = replace(config.finetune, steps=min(config.finetune.steps, most))
    config = _holding(changes, composed, replace(config, finetune=tuning))
    reserve = probed + config.finetune.steps * tuned + _evaluation(config, given.seed, evaluated)
    left = given.begun + 60 * given.minutes - reserve - time.monotonic()
    if left < seconds and given.backbone and not _compared(given):
        print(f"{seconds:.1f} s a step here: none fits into {given.minutes:g} minutes, so the linear probe is kept; "
              "give more --minutes, or a smaller --size", flush=True)  # fmt: skip
        return config, {_TRAINS: False}
    return _holding(changes, composed, laid_over(config, _steps_within(left, seconds, given))), {_RESERVE: reserve}


def _compared(given: argparse.Namespace) -> bool:
    """Whether this fit is one of several to compare, each of which keeps what its method gives."""
    return given.compare is not None


def _set_aside(data: FolderData, given: argparse.Namespace, changes: Mapping[str, str]) -> float:
    """The share of the labelled images to judge by: none where test images do, unless there are two to choose from."""
    choosing = given.backbone and given.method != PROBE and not _compared(given)
    return data.set_aside if "data.set_aside" in changes or (data.test and not choosing) else _SET_ASIDE


def _evaluation(config: Config, seed: int, evaluated: float) -> float:
    """Seconds that evaluation takes, by those of an image.

    Where there are a probe and a network, both are judged by what is set aside, and the kept one by the test images.
    """
    source = cast(Folder, source_of(config.data))
    tested, aside = len(source.held_out_set(seed).labels), len(source.set_aside_set(seed).labels)
    images = tested + aside * (1 + isinstance(config.model, Pretrained))
    return _PICTURES + images * evaluated


def _holding(keys: Iterable[str], composed: Config, config: Config) -> Config:
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
    test = _relative(given.test, root) if given.test else ""
    data = replace(data, root=str(root), test=test, labelled=labelled, labels=given.labels)
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
    budget, tuning = config.budget, config.finetune
    labels = len(source_of(config.data).training_set(seed).labels)
    return replace(
        config,
        budget=replace(budget, labelled_batch=min(budget.labelled_batch, labels), workers=1),
        finetune=replace(tuning, batch=min(tuning.batch, labels)),
        data_hash=source_of(config.data).training_hash([seed]),
        planned_seeds=str(seed),
    )


def _fastest(config: Config, threads: set[int], seed: int, timed: float, until: float) -> tuple[Config, float, float]:
    """With as many of the threads as are fastest here, each timed in a process of its own; and what `speed` found.

    More threads than there are idle cores wait for each other in every operation, and are slower than one. After
    `until`, by time.monotonic(), no other number of them is tried.
    """
    found: dict[int, tuple[float, float]] = {}
    for count in sorted(threads):
        if found and time.monotonic() > until:
            break
        workers, context = worker_pool(1)
        with ProcessPoolExecutor(workers, context) as pool:
            tried = replace(config, engine=replace(config.engine, threads=count))
            found[count] = pool.submit(speed, tried, seed, timed).result()
    best = min(found, key=lambda count: found[count])
    return replace(config, engine=replace(config.engine, threads=best)), *found[best]


def _steps_within(left: float, seconds: float, given: argparse.Namespace) -> int:
    """As many steps as fit into the seconds that are left, on this machine."""
    steps = max(1, int(left / seconds))
    print(f"{seconds:.2f} s a step here: about {steps:,} step{'s' * (steps > 1)} in {given.minutes:g} minutes",
          flush=True)  # fmt: skip
    if steps < (_FEW_FROM_PROBE if given.backbone else _FEW):
        other = "a --backbone, " if not given.backbone else "--method supervised, " * (given.method != "supervised")
        print(f"NOTE: these are few; {other}more --minutes, a smaller --size or a GPU would do better", flush=True)
    return steps


def speed(config: Config, seed: int, timed: float = _TIMED) -> tuple[float, float]:
    """The mean seconds of a step over some seconds of training, once it runs smoothly; and of an image evaluated."""
    set_up_process(config.engine.threads)
    trainer = Trainer(replace(config, budget=replace(config.budget, log_every=1_000_000)), seed, choose_device())
    trainer.advance()
    begun, made = time.monotonic(), 0
    while not made or (time.monotonic() - begun < timed and made < config.budget.steps - 2):
        trainer.advance()
        made += 1
    seconds = (time.monotonic() - begun) / made
    some = trainer.data.labelled[:_EVALUATED]
    weights = counted(trainer.state.learners[config.method.networks[-1]])
    begun = time.monotonic()
    Predictor(config, seed).probabilities(weights, some)
    return seconds, (time.monotonic() - begun) / len(some)
