"""Training on images in files: read ahead, resumed, and every arm of Tiny ImageNet on its real JPEGs."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from repro.config import Config
from repro.data import source_of
from repro.engine.distributed import World
from repro.plan import compose
from repro.train.batches import Batches
from repro.train.loop import Stopped, Trainer, finetune
from tests.folders import write_folder
from tests.samples import TINY_IMAGENET
from tests.tiny import CPU, assert_same, assert_same_training

ROOT = Path(__file__).parent.parent / "experiments"
SMALL = ["budget.steps=6", "budget.labelled_batch=4", "budget.unlabelled_batch=6", "budget.log_every=1",
         "budget.snapshots=2", "budget.curve_examples=8", "model.width=4", "data.image_size=16",
         "optim.student.warmup_steps=1", "optim.teacher.warmup_steps=1", "model.norm_decay=0.5"]  # fmt: skip


def on(root: Path, experiment: str, *changes: str, **data: object) -> Config:
    """A few steps of an experiment on the images of a prepared folder."""
    config = compose(experiment, [*SMALL, *changes], ROOT)
    given = replace(config.data, root=str(root), **data)  # type: ignore[arg-type]
    source_of(given).prepare()
    return replace(config, data=source_of(given).settled())


@pytest.fixture
def mixed(workplace: Path) -> Path:
    """A folder with two classes and images that have none."""
    return write_folder(workplace / "images", {"cat": 8, "dog": 7, "unlabelled": 6})


def test_reading_ahead_and_the_number_of_readers_change_no_batch(mixed: Path) -> None:
    """Step after step, alone, backwards and with four readers: the same pixels."""
    config = on(mixed, "folder_mpl", "budget.steps=12")
    views = config.method.views
    ahead = Batches(config, views, 0, CPU)
    many = Batches(replace(config, engine=replace(config.engine, readers=4)), views, 0, CPU)
    back = Batches(config, views, 0, CPU)
    before = {step: back.at(step) for step in reversed(range(12))}
    for step in range(12):
        alone = Batches(config, views, 0, CPU).at(step)
        for batch in (ahead.at(step), many.at(step), before[step]):
            for name in ("labelled", "labels", "weak", "strong", "hidden_labels"):
                assert torch.equal(getattr(alone, name), getattr(batch, name)), (step, name)


def test_finetuning_does_not_see_what_training_read_ahead(mixed: Path) -> None:
    """Training that ends before its planned end has begun to read for the next step: other images than finetuning's."""
    config = on(mixed, "folder_mpl", "budget.steps=12")
    ended, fresh = (Batches(config, config.method.views, 0, CPU) for _ in range(2))
    for step in range(5):
        ended.at(step)
    index = ended.order(5)[0].flip(0)

    assert torch.equal(fresh.labelled_alone(index, 5)[0], ended.labelled_alone(index, 5)[0])


def test_processes_read_their_rows_of_one_batch(mixed: Path) -> None:
    """Two processes together hold images, crops and views of one, read ahead; partners of SamplePairing are of both."""
    config = on(mixed, "folder_mpl", "budget.steps=4", "data.views.operations=paper", "data.views.lowest_rate=0.8")
    views = config.method.views
    handed: list[list[torch.Tensor]] = [[], []]  # by each process, in the order of its steps

    def batches(rank: int) -> Batches:
        world = World(rank, 2)
        object.__setattr__(world, "whole", lambda part: handed[rank].append(part) or part.repeat(2, 1, 1, 1))
        return Batches(config, views, 0, CPU, world)

    for rank in range(2):  # once for what each hands over, which is made before it is paired with anything
        first = batches(rank)
        for step in range(4):
            first.at(step)
    wholes = [torch.cat(parts) for parts in zip(*handed, strict=True)]
    worlds = [World(rank, 2) for rank in range(2)]
    for world in worlds:
        waiting = iter(wholes)
        object.__setattr__(world, "whole", lambda _, waiting=waiting: next(waiting))
    alone, parts = Batches(config, views, 0, CPU), [Batches(config, views, 0, CPU, world) for world in worlds]

    for step in range(4):
        whole, shared = alone.at(step), [part.at(step) for part in parts]
        for name in ("labelled", "labels", "weak", "strong", "hidden_labels"):
            assert torch.equal(getattr(whole, name), torch.cat([getattr(one, name) for one in shared])), (step, name)


def test_labels_of_a_batch_are_those_of_its_images(mixed: Path) -> None:
    """Each labelled view is a crop of an image of its class, told by its brightness: cats are bright here."""
    from PIL import Image

    for path in [*mixed.glob("cat/*"), *mixed.glob("dog/*")]:
        Image.new("RGB", (20, 20), "white" if path.parent.name == "cat" else "black").save(path)
    trainer = Trainer(on(mixed, "folder_uda"), 0, CPU)
    for step in range(3):
        batch = trainer.batch(step)
        assert (batch.labelled.mean(dim=(1, 2, 3)) > 0).tolist() == (batch.labels == 0).tolist()


def test_a_stopped_run_on_files_resumes_bit_for_bit(mixed: Path, tmp_path: Path) -> None:
    """Stopped after its first step, while the next ones are being read, it ends as the uninterrupted one."""
    config = on(mixed, "folder_mpl", "finetune={steps: 2, learning_rate: 1.0e-5, batch: 4}")
    whole = Trainer(config, 0, CPU)
    whole.run(tmp_path / "none")
    with pytest.raises(Stopped):
        Trainer(config, 0, CPU).run(tmp_path / "state", deadline=time.monotonic() - 1)
    resumed = Trainer(config, 0, CPU)
    resumed.run(tmp_path / "state")

    assert_same_training(whole, resumed)
    assert_same(finetune(whole), finetune(resumed))


def test_real_jpegs_train_the_same_twice(workplace: Path) -> None:
    """Tiny ImageNet as the plan reads it, a few classes of it: finite steps, the same when run again."""
    config = on(TINY_IMAGENET, "tiny_imagenet_mpl", "finetune.batch=4", labels=30, classes=0)
    first, second = (Trainer(config, 0, CPU) for _ in range(2))
    first.run(workplace / "state")
    for _ in range(6):
        second.advance()

    assert_same_training(first, second)
    assert len(first.data.labels) == config.data.labels


def test_two_views_are_of_one_crop(mixed: Path) -> None:
    """Without RandAugment the strong view is the weak one, flipped or not: each view flips by itself."""
    config = on(mixed, "folder_mpl", "data.views.lowest_rate=0", "data.views.highest_rate=0")
    batch = Trainer(config, 0, CPU).batch(0)
    same = [torch.equal(a, b) or torch.equal(a.flip(-1), b) for a, b in zip(batch.weak, batch.strong, strict=True)]

    assert all(same)
    assert {True, False} == {torch.equal(a, b) for a, b in zip(batch.weak, batch.strong, strict=True)}
    assert 1 < len({float(image.sum()) for image in batch.weak})
