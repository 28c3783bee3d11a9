"""What one more method and one more data set take: in a copy of the project, two files each, and they train.

A name of its own, as an arm of a comparison, is two lines of data more: a row in experiments/arms.yaml, and its place
in the setting.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.entry_points import python

ROOT = Path(__file__).parents[1]
SHORT = ["budget.steps=3", "budget.snapshots=1", "budget.labelled_batch=10", "budget.unlabelled_batch=8",
         "optim.teacher.warmup_steps=0", "optim.student.warmup_steps=0", "model.width=2", "--seeds", "0"]  # fmt: skip

METHOD: dict[str, Mapping[str, str]] = {
    "repro/methods/__init__.py": {
        "Method = Annotated[": '''@settings
class Halved(MethodSettings):
    """Supervised learning with a share of the loss."""

    name: Literal["halved"] = "halved"
    share: Share = 0.5


Method = Annotated[Halved | '''
    },
    "repro/methods/halved.py": {
        "": """from repro.losses import cross_entropy
from repro.methods.state import State, logits_of, new_learner


def init(build, config, optim, steps, lead):
    return State({"teacher": new_learner("teacher", build, optim, steps, lead)})


def step(state, batch, config):
    learner = state.learners["teacher"]
    logits = logits_of(learner, [batch.labelled], batch.draws, "teacher dropout")
    loss = config.share * cross_entropy(logits, batch.labels).mean(dim=-1)
    learner.apply(learner.gradients(loss), state.step)
    state.step += 1
    return {"labelled_loss": loss.detach()}
"""
    },
}

DATA: dict[str, Mapping[str, str]] = {
    "repro/data/__init__.py": {
        "Data = Annotated[": '''@settings
class NoiseData(DataSettings):
    """40 random images of two classes: 10 labelled, 20 unlabelled, 10 held out."""

    source: ClassVar[str] = "noise:Noise"
    shape: ClassVar[tuple[int, ...]] = (1, 8, 8)
    name: Literal["noise"] = "noise"
    labels: Annotated[int, Range(10, 10)] = 10


Data = Annotated[NoiseData | '''
    },
    "repro/data/noise.py": {
        "": """import torch

from repro.data.sets import HeldOutSet, Source, TrainingSet
from repro.seeding import Streams


class Noise(Source):
    classes = 2

    def images(self):
        return Streams(0).integers("noise", 0, 256, (40, 1, 8, 8)).to(torch.uint8), torch.arange(40) % 2

    def training_set(self, seeds):
        (images, labels), at = self.images(), torch.arange(40)
        return TrainingSet(images[:10], labels[:10], images[10:30], labels[10:30], at[:10], at[10:30])

    def held_out_set(self, seeds):
        images, labels = self.images()
        return HeldOutSet(images[30:], labels[30:])

    def to_input(self, examples):
        return examples.float() / 255

    def weak(self, examples, part, name):
        return examples

    def strong(self, examples, weak, part, name):
        return examples.flip(-1)
"""
    },
}


def trained_with(added: Mapping[str, Mapping[str, str]], place: Path, *words: str) -> str:
    """What `repro run <words>` prints in a copy of the project with these files: {path: {what stands there: anew}}."""
    for folder in ("repro", "experiments"):
        shutil.copytree(ROOT / folder, place / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path, edits in added.items():
        text = (place / path).read_text() if (place / path).exists() else ""
        for before, after in edits.items():
            assert text.count(before) == 1, (path, before)
            text = text.replace(before, after)
        (place / path).write_text(text)
    done = python("-m", "repro", "run", *words, *SHORT, cwd=place, root=place)
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("added", "words"), [
    (METHOD, ["digits_supervised", "method=halved", "method.share=0.25"]),
    (DATA, ["digits_uda", "data=noise"]),
], ids=["method", "data"])  # fmt: skip
def test_it_takes_at_most_3_files(added: Mapping[str, Mapping[str, str]], words: list[str], tmp_path: Path) -> None:
    """It is composed, trains three steps and is evaluated, with nothing else touched."""
    said = trained_with(added, tmp_path, *words)

    assert len(added) <= 3
    assert "accuracy in %, teacher counts" in said
