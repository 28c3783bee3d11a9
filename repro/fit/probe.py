"""A linear probe: logistic regression on what a pretrained network, left as it is, sees in the labelled images."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from threadpoolctl import threadpool_limits
from torch import Tensor

from repro.config import Config
from repro.data import source_of
from repro.data.images import ImageFiles
from repro.engine.device import choose_device, free_processors
from repro.models.pretrained import PretrainedNet
from repro.settings import ConfigError
from repro.train.checkpoint import Damaged, OtherFormat, load, save

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of scikit-learn: the inverse of the weight of L2
LEAST = 0.1  # of the mean deviation: what few of the images show must not decide, nor upset what trains from here
_NO_CHOICE = 1e-2  # where a class has one label, and nothing can be held out to choose by
_FOLDS = 5
_CHUNK = 32  # images a pass


@dataclass(frozen=True)
class Probe:
    """A head of K classes on D features, and what each labelled image was taken for by the probe of the others."""

    weight: Tensor  # [K, D]
    bias: Tensor  # [K]
    strength: float
    held_out: Tensor | None  # float32 [N, K] by cross-validation; None where a class has one label


def features(config: Config, net: PretrainedNet, files: ImageFiles, cache: Path) -> np.ndarray:
    """What the body of the network gives for the centre of each image, float32 [N, D].

    Those of images that were looked at before, by the same weights at the same size, are read from the folder `cache`.
    """
    body = hashlib.sha256(
        repr((type(net.module).__name__, files.size, files.views.evaluated_share, files.levels)).encode()
    )
    for name, value in net.module.state_dict().items():
        if not name.startswith(f"{net.head}."):
            body.update(value.cpu().numpy().tobytes())
    path = cache / f"{body.hexdigest()[:24]}.pt"
    known: dict[str, Tensor] = {}
    with contextlib.suppress(OSError, Damaged, OtherFormat):  # it is only a saving of time
        known = load(path)
    names = [digest.tobytes().hex() for digest in files.digests]
    missing = [number for number, name in enumerate(names) if name not in known]
    source: Any = source_of(config.data)
    device = choose_device()
    net.to(device).eval()
    for first in range(0, len(missing), _CHUNK):
        some = missing[first : first + _CHUNK]
        images = source.as_evaluated(files[torch.tensor(some)], config.engine.readers).to(device)
        with torch.no_grad():
            rows = net.features(images).cpu()
        known |= {names[number]: row.clone() for number, row in zip(some, rows, strict=True)}
    if not all(bool(row.isfinite().all()) for row in known.values()):
        raise ConfigError(f"--backbone: {type(net.module).__name__} gives numbers that are not finite for these "
                          "images; take other --weights")  # fmt: skip
    if missing:
        save(path, known)
    return np.stack([known[name].numpy() for name in names])


def probe(x: np.ndarray, labels: np.ndarray, classes: int, seed: int) -> Probe:
    """Fits the head to features [N, D] and labels int64 [N], with the L2 of the least cross-validated loss.

    L2 is the same in all directions, so the fit is made in the N that the standardised features span: of 200 images
    with 1,280 features, in a sixth of the time.
    """
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    deviation = np.maximum(deviation, LEAST * deviation.mean())
    _, _, span = np.linalg.svd(((x - mean) / deviation).astype(np.float64), full_matrices=False)
    inside = ((x - mean) / deviation) @ span.T
    folds = min(_FOLDS, int(np.bincount(labels, minlength=classes).min()))
    best, held_out = _NO_CHOICE, None
    with threadpool_limits(free_processors()), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if folds > 1:
            split = StratifiedKFold(folds, shuffle=True, random_state=seed)
            found = {c: cross_val_predict(_model(c), inside, labels, cv=split, method="predict_proba")
                     for c in STRENGTHS}  # fmt: skip
            best = min(found, key=lambda c: log_loss(labels, found[c], labels=range(classes)))
            held_out = torch.from_numpy(found[best]).float()
        fitted = _model(best).fit(inside, labels)
    weight, bias = fitted.coef_ @ span, fitted.intercept_
    if classes == 2:  # one row, the logit of the second class
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / deviation
    return Probe(torch.from_numpy(weight).float(), torch.from_numpy(bias - weight @ mean).float(), best, held_out)


def _model(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=1000)
