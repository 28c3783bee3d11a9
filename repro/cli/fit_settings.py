"""From the few options of `fit` to all settings of a run: what images there are, and how many steps fit the time."""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from repro.config.compose import compose
from repro.config.data import FolderData
from repro.config.read import ConfigError, checked
from repro.config.schema import Config
from repro.config.shorten import shortened
from repro.data import source_of
from repro.data.folder import IMAGENET_10PERCENT, PARTS
from repro.engine.device import choose_device, set_up_process, worker_pool
from repro.train.loop import Trainer

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
