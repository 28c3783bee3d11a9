"""Trains a classifier on your own images: a folder in, a model out.

    python -m repro.cli.fit images/ [--labels 400 | --labelled labels.csv] [--test test/] [--minutes 30] [--out mine]

Classes are the folders in `images/`; images in `images/unlabelled`, or beside the folders, are unlabelled ones. Where
`images/` holds `train` and `test` (or `val`), these are taken. The same command again goes on where it was stopped, or
says that it is finished. Any setting of an experiment can be changed at the end: optim.student.learning_rate=0.1.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import yaml

from repro.cli.chunk import Job
from repro.cli.entry import run
from repro.cli.environment import source_hashes
from repro.cli.fit_settings import Options, planned
from repro.cli.lock import only_writer
from repro.cli.train import deadline_of, refuse_other_states, train_all
from repro.config.read import ConfigError, as_mapping, read_config_file, read_yaml
from repro.config.schema import Config
from repro.data import source_of
from repro.engine.device import set_up_process
from repro.evaluate.evaluate import counted_network
from repro.evaluate.model import Score, TrainedModel, load_model, save_model, score
from repro.files import remove_folder, write_whole
from repro.train.result import Result, load_result
from repro.train.storage import Damaged
from repro.verify.statistics import rate_interval

MODEL = "model.pt"
SETTINGS, OPTIONS = "settings.yaml", "options.yaml"


def main() -> int:
    """Prepares, trains, evaluates, and leaves the model; exits as `repro.cli.train` does when it stopped before."""
    options, out = _arguments()
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
    print(
        f"{out}: {_said(facts)}\nclassify images with: python -m repro.cli.predict {out} <folder> --csv predictions.csv"
    )
    return 0


def _arguments() -> tuple[Options, Path]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="the folder of images")
    parser.add_argument("settings", nargs="*", help="key=value, any setting of an experiment")
    parser.add_argument("--test", type=Path, help="a folder of test images, in folders called as the classes")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--labels", type=int, default=0, help="use the labels of so many images (default: of all)")
    which.add_argument("--labelled", default="", help="a CSV with path,label, or a list of the labelled images")
    parser.add_argument("--method", default="uda", choices=["uda", "supervised", "mpl", "fixmatch"])
    parser.add_argument("--model", default="", help="wide_resnet_10 (default), resnet50_narrow, wide_resnet, resnet50")
    parser.add_argument("--size", type=int, default=0, help="side in pixels of what the network sees (default: 32)")
    parser.add_argument("--minutes", type=float, default=30.0, help="of training, roughly (default: 30)")
    parser.add_argument("--steps", type=int, default=0, help="exactly so many, in place of minutes")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: 0)")
    parser.add_argument("--out", type=Path, help="the folder to leave the model in (default: models/<images>)")
    given = parser.parse_intermixed_args()
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
        f"- Use: `python -m repro.cli.predict {out} <folder> --csv predictions.csv`", "",
    ]  # fmt: skip
    if found:
        lines += ["| class | test images | right | most often taken for |", "|---|---|---|---|"]
        for k, (name, row) in enumerate(zip(names, found.confusion, strict=True)):
            wrong = max((n, names[j]) for j, n in enumerate(row) if j != k)
            lines.append(f"| {name} | {sum(row)} | {row[k]} | {f'{wrong[1]} ({wrong[0]})' if wrong[0] else '–'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run(main)
