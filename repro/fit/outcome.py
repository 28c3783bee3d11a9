"""What comes of a fit: a linear probe, a trained network, which of them is better, and what a person reads about it."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from safetensors.torch import save
from torch import Tensor

from repro.config import Config, expected_networks, read_config
from repro.data import FolderData, source_of
from repro.data.folder import Folder
from repro.data.images import ImageFiles
from repro.data.layout import printable
from repro.data.sets import HeldOutSet
from repro.evaluate.predict import Score, score, scored
from repro.files import write_whole
from repro.fit.saved import DESCRIPTION, WEIGHTS, Classifier
from repro.models import Pretrained
from repro.models.pretrained import PretrainedNet, named
from repro.settings import ConfigError
from repro.train.checkpoint import Result
from repro.verify.statistics import rate_difference_interval, rate_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from repro.fit.probe import Probe

PROBE = "probe"
_MOST_CLASSES = 40  # whose names can be read in the confusion matrix
_WORST = 16
_START, _CACHE = "start.safetensors", ".features"
_IN_WORDS = {"test": "test images", "aside": "labelled images that were set aside",
             "cross": "labelled images in cross-validation"}  # fmt: skip


def start_from_probe(config: Config, given: argparse.Namespace, state: Path, size: int) -> tuple[Config, float]:
    """Fits a head to the labelled images, and leaves the network with it as what training starts from.

    Args:
        config: with the data settled.
        given: names the backbone and its weights.
        state: the folder to leave it in.
        size: side in pixels that the network sees, if it takes it; 0 takes that of `config`.

    Returns:
        The settings, and the seconds that the probe took.
    """
    begun, data = time.monotonic(), cast(FolderData, config.data)
    asked = cast(Pretrained, config.model)
    model, module, made_for = named(given.backbone, given.weights, data.classes)
    model = replace(model, head_only=asked.head_only)
    net = PretrainedNet(model, data.classes, module)
    sides = [min(size, made_for), made_for] if size else [data.image_size]
    refused = {side: why for side in sides if (why := net.refusal(side))}
    if len(refused) == len(set(sides)):
        raise ConfigError(f"--size = {sides[-1]}: {model.network} does not take such images ({refused[sides[-1]]}); it "
                          f"was made for --size {made_for}, or take another --backbone")  # fmt: skip
    data = replace(data, image_size=next(side for side in sides if side not in refused))
    engine = replace(config.engine, channels_last=config.engine.channels_last and not net.is_narrow())
    config = replace(config, data=data, model=model, engine=engine)
    training = source_of(config.data).training_set(given.seed)
    found = _probe(config, net, HeldOutSet(training.labelled, training.labels), given.seed, state.parent)
    start = net.with_head(found.weight, found.bias)
    content = save({name.removeprefix("module."): value for name, value in start.items()})
    path = state / _START
    write_whole(path, content)
    seconds = time.monotonic() - begun
    packaged = "EfficientNet-Lite0, trained on ImageNet, from the package that carries its weights"
    what = packaged if given.backbone == "auto" else f"{model.network} of {model.library}"
    cross = _crossed(found, training.labels)
    how = f"; {_share(cross.right, cross.images, 'cross')}" if cross else ""
    print(f"backbone: {what}; a linear probe on {len(training.labels):,} labels took {seconds:.0f} s{how}", flush=True)
    digest = hashlib.sha256(content).hexdigest()
    return replace(config, model=replace(model, weights=str(path.resolve()), weights_hash=digest)), seconds


def start_of(config: Config, out: Path) -> PretrainedNet:
    """The network that training starts from, with the head of the probe; ConfigError where its file is no longer so."""
    try:
        return PretrainedNet(cast(Pretrained, config.model), cast(FolderData, config.data).classes)
    except ConfigError as error:
        raise ConfigError(f"{error}; or begin anew: rm -r {out}") from None


def _probe(config: Config, net: PretrainedNet, images: HeldOutSet, seed: int, out: Path) -> Probe:
    """Of these labelled images; their features are kept beside the model's folder, for other fits too."""
    from repro.fit.probe import features, probe

    x = features(config, net, images.examples, out.parent / _CACHE)  # type: ignore[arg-type]
    return probe(x, images.labels.numpy(), net.classes, seed)


def _crossed(found: Probe, labels: Tensor) -> Score | None:
    """What a probe takes labelled images for by cross-validation; None where a class has one label."""
    return None if found.held_out is None else scored(found.held_out, labels, len(found.bias))


def weights_that_count(result: Result) -> dict[str, Tensor]:
    """Of a trained network: the finetuned ones where there are any, else the averaged ones, else the last."""
    return dict(result.finetuned or result.networks()[expected_networks(read_config(result.config))[1]])


def finish(out: Path, asked: Config, seed: int, result: Result | None, begun: float, keep: str = "") -> dict[str, Any]:
    """Judges what there is, keeps the better one, writes it and what a person reads about it; returns the facts.

    Args:
        out: the model's folder.
        asked: the settings that training began with.
        seed: of the run.
        result: of training; None where there is a probe alone.
        begun: when the command was started, by time.monotonic().
        keep: which of the two to keep; empty takes the better one.
    """
    config = read_config(result.config) if result else asked
    source = cast(Folder, source_of(config.data))
    test, aside, names = source.held_out_set(seed), source.set_aside_set(seed), source.class_names()
    candidates: dict[str, dict[str, Tensor]] = {}
    if isinstance(config.model, Pretrained) and keep in {"", PROBE}:
        candidates[PROBE] = dict(start_of(config, out).state_dict())
    if result:
        candidates[config.method.name] = weights_that_count(result)
    judged_by = {name: score(config, seed, weights, aside) for name, weights in candidates.items()}
    kept = _better(judged_by, aside.labels.numpy())
    weights, found, on, shown = candidates[kept], judged_by[kept], "aside", aside
    if kept == PROBE:  # of all labels now: those that were set aside have done their work
        weights, found, shown = _of_all_labels(config, seed, out)
        on = "cross"
    if len(test.labels):
        found, on, shown = score(config, seed, weights, test), "test", test
    facts = {
        "kept": kept,
        "right": found.right if found else None,
        "images": found.images if found else 0,
        "on": on,
        "set_aside": {name: [one.right, one.images] for name, one in judged_by.items() if one},
        "minutes": round((time.monotonic() - begun) / 60, 2),
        "environment": result.environment if result else {},
    }
    if result:
        header = ",".join(result.rows[-1]) + "\n"
        rows = [",".join(f"{row.get(key, math.nan):.6g}" for key in result.rows[-1]) + "\n" for row in result.rows]
        write_whole(out / "log.csv", (header + "".join(rows)).encode())
        _draw_curves(out, result.rows)
    if found:
        _draw_confusion(out, found, names, f"{found.images:,} {_IN_WORDS[on]}")
        _draw_mistakes(out, found, cast(Any, shown.examples), shown.labels.numpy(), names)
    write_whole(out / "README.md", _readme(out, config, kept, names, facts, found).encode(errors="replace"))
    levels = getattr(source.training_set(seed).unlabelled, "levels", None)
    Classifier(config, names, weights, facts, levels).save(out)
    return facts


def _better(judged: dict[str, Score | None], labels: np.ndarray) -> str:
    """Which candidate to keep: the trained network where it is right on more of the images that were set aside."""
    if len(judged) == 1:
        return next(iter(judged))
    (_, before), (trained, after) = judged.items()
    if before is None or after is None:
        print("too few labels to set any aside, so the linear probe is kept; --method alone trains without one")
        return PROBE
    were, are = before.classes == labels, after.classes == labels
    low, high = rate_difference_interval(int((are & ~were).sum()), int((were & ~are).sum()), len(labels))
    told = f"linear probe {100 * before.right / len(labels):.1f} %, {trained} {100 * after.right / len(labels):.1f} %"
    mean = 100 * (after.right - before.right) / len(labels)
    print(f"on {len(labels):,} {_IN_WORDS['aside']}: {told}; the difference is {mean:+.1f} points, 95 % interval "
          f"{100 * low:+.1f} to {100 * high:+.1f}")  # fmt: skip
    kept = trained if after.right > before.right else PROBE
    print(f"kept: {'the linear probe' if kept == PROBE else kept}", flush=True)
    return kept


def _of_all_labels(config: Config, seed: int, out: Path) -> tuple[dict[str, Tensor], Score | None, HeldOutSet]:
    """A probe of all labelled images, what it takes them for by cross-validation, and the images."""
    data = cast(FolderData, config.data)
    training = source_of(replace(data, set_aside=0.0)).training_set(seed)
    images = HeldOutSet(training.labelled, training.labels)
    net = start_of(config, out)
    found = _probe(config, net, images, seed, out)
    return net.with_head(found.weight, found.bias), _crossed(found, images.labels), images


def in_words(facts: dict[str, Any]) -> str:
    """The accuracy with its interval."""
    if facts["right"] is None:
        return "no images to evaluate it on"
    return _share(facts["right"], facts["images"], facts["on"])


def _share(right: int, count: int, on: str = "aside") -> str:
    low, high = rate_interval(right, count)
    return (f"{100 * right / count:.1f} % of {count:,} {_IN_WORDS[on]} right, "
            f"95 % interval {100 * low:.1f} to {100 * high:.1f} %")  # fmt: skip


def _readme(out: Path, config: Config, kept: str, names: list[str], facts: dict[str, Any], found: Score | None) -> str:
    model = config.model
    network = f"{model.network} of {model.library}" if isinstance(model, Pretrained) else model.name
    how = "a linear probe" if kept == PROBE else f"{config.title}, {config.budget.steps:,} steps"
    trained = ", `curves.png`; losses: `log.csv`" if facts["environment"] else ""
    compared = [f"- {name}: {_share(*counts)}." for name, counts in facts["set_aside"].items()]
    lines = [
        f"# {out.resolve().name}", "",
        f"A classifier of {len(names)} classes: {how}.", "",
        f"- Labelled images: {config.data.labels:,}.",
        f"- Accuracy: {in_words(facts)}.",
        f"- Network: {network}; it sees squares of {config.data.shape[-1]} pixels.",
        *(compared if len(compared) > 1 else ()),
        f"- `{WEIGHTS}`: the weights, for safetensors. `{DESCRIPTION}`: class names, size, mean, deviation, settings.",
        f"- Pictures: `confusion.png`, `mistakes.png`{trained}.",
        f"- Use: `repro predict {out} <folder> --csv predictions.csv`", "",
    ]  # fmt: skip
    if found:
        names = [printable(name).replace("|", "\\|") for name in names]
        lines += ["| class | images | right | most often taken for |", "|---|---|---|---|"]
        for k, (name, row) in enumerate(zip(names, found.confusion, strict=True)):
            wrong = max((n, names[j]) for j, n in enumerate(row) if j != k)
            lines.append(f"| {name} | {sum(row)} | {row[k]} | {f'{wrong[1]} ({wrong[0]})' if wrong[0] else '–'} |")
    return "\n".join(lines) + "\n"


# What a person looks at


def _draw_curves(folder: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """The losses along training, and the share of wrong pseudo labels where it is known."""
    names = [name for name in rows[-1] if name.endswith("loss") or name == "pseudo_label_wrong"]
    with _picture(folder / "curves.png", 7, 4) as figure:
        axes = figure.add_subplot(xlabel="step", ylabel="mean since the last point")
        for name in names:
            values, marker = [row.get(name, np.nan) for row in rows], "o" if len(rows) == 1 else ""
            axes.plot([row["step"] for row in rows], values, label=name.replace("_", " "), marker=marker)
        axes.legend()


def _draw_confusion(folder: Path, score: Score, names: Sequence[str], of: str) -> None:
    """Rows are the true classes, columns those predicted."""
    counts, side = np.array(score.confusion), min(14.0, 3 + 0.35 * len(names))
    with _picture(folder / "confusion.png", side, side) as figure:
        axes = figure.add_subplot(xlabel="predicted", ylabel="true", title=of)
        axes.imshow(counts / counts.sum(axis=1, keepdims=True).clip(1), cmap="Blues", vmin=0, vmax=1)
        if len(names) > _MOST_CLASSES:
            return
        told = [_told(name) for name in names]
        axes.set_xticks(range(len(names)), told, rotation=90)
        axes.set_yticks(range(len(names)), told)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                light = count > counts[row].sum() / 2
                axes.text(column, row, str(count), ha="center", va="center", color="white" if light else "black")


def _draw_mistakes(folder: Path, score: Score, files: ImageFiles, labels: np.ndarray, names: Sequence[str]) -> None:
    """The wrong predictions of the highest probability, as the network sees them; no file where there are none."""
    wrong = np.flatnonzero(score.classes != labels)
    worst = wrong[np.argsort(-score.shares[wrong], kind="stable")][:_WORST]
    if not len(worst):
        (folder / "mistakes.png").unlink(missing_ok=True)
        return
    columns = min(4, len(worst))
    lines = -(-len(worst) // columns)
    with _picture(folder / "mistakes.png", 2.6 * columns, 3.0 * lines) as figure:
        for place, number in enumerate(worst.tolist(), 1):
            axes = figure.add_subplot(lines, columns, place)
            axes.axis("off")
            axes.imshow(files[number : number + 1].centre()[0].permute(1, 2, 0).numpy())
            taken, true = (_told(names[int(of[number])]) for of in (score.classes, labels))
            told = f"{taken} {100 * score.shares[number]:.0f} %\nis {true}\n{_told(files.path(number).name)}"
            axes.set_title(told, fontsize=7)


@contextlib.contextmanager
def _picture(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A picture to draw in, of so many inches, which is written at the end of the block."""
    from matplotlib.figure import Figure

    yield (figure := Figure(figsize=(width, height), layout="constrained"))
    buffer = io.BytesIO()
    with warnings.catch_warnings():  # of letters that its font does not have
        warnings.simplefilter("ignore")
        figure.savefig(buffer, format="png", dpi=110)
    write_whole(path, buffer.getbuffer())


def _told(name: str) -> str:
    """A name that is drawn: short, and no formula."""
    text = printable(name).replace("$", r"\$")
    return text if len(text) <= 24 else f"{text[:23]}…"
