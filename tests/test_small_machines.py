"""Less memory: blocks computed again bit for bit, chunks as written out by hand, the need said before the start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from repro.cli import chunk
from repro.cli import memory as cli_memory
from repro.config.departures import departures
from repro.config.methods import Feedback, Mpl
from repro.config.models import ResNet50, WideResNet
from repro.config.read import ConfigError, as_mapping, decisive, read_config
from repro.config.schema import CHOICES, Config, Engine
from repro.data.cifar10 import Cifar10
from repro.engine.memory import Memory, is_out_of_memory, memory_of
from repro.engine.place import place
from repro.methods import mpl
from repro.models.build import build_model
from repro.models.layers import BatchNorm, frozen_statistics
from repro.seeding import Streams
from repro.train import memory, remedies
from repro.train.alarm import settings_digest
from repro.train.memory import bytes_needed
from repro.train.remedies import fitting, names_of_settings
from tests.all_settings import DEEP_IMAGES, IMAGES, Choice, small, with_changes
from tests.tiny import CPU, all_weights, assert_same, tiny_batch, tiny_state, trained, weights

ROOT = Path(__file__).parent.parent
NOISE = Streams(3).uniform("noise", 0, (7, 128))
SEEN = Streams(3).normal("images", 0, (7, 3, 32, 32))


@pytest.fixture(autouse=True, scope="module")
def _synthetic_images() -> Iterator[None]:
    """Noise stands in for CIFAR-10."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (5200, 3, 32, 32), generator=generator, dtype=torch.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cifar10, "read", lambda *_: (images, torch.arange(len(images)) % 10))
        yield


def images(method: str, problem: Choice = IMAGES, **changes: Any) -> Config:
    """A small run on images with averages and dropout; `changes` are dotted keys with __ for the dot."""
    usual = {"optim.average_decay": 0.9, "budget.steps": 10, "budget.log_every": 2, "budget.labelled_batch": 6,
             "budget.unlabelled_batch": 8, "model.width": 1}  # fmt: skip
    if method == "pseudo_label":
        usual["method.teacher_steps"] = 2
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    return read_config(with_changes(small({**problem, "method": method}), usual | changes))


def network(engine: Engine, model: WideResNet | ResNet50 | None = None) -> nn.Module:
    """A small network of the student's role, with dropout, placed."""
    model = model or WideResNet(depth=10, width=2, student_dropout=0.5)
    return place(build_model(model, 10, Streams(0), "student"), engine, CPU)


def statistics(model: nn.Module) -> list[Tensor]:
    """Copies of all running means and variances."""
    return [buffer.clone() for buffer in model.buffers()]


# Recomputation


BIT_FOR_BIT = [
    *(("wide_resnet", method, {}) for method in CHOICES["method"]),
    ("resnet50", "mpl", {}),
    ("resnet50", "uda", {"engine__channels_last": False, "model__width": 4}),
    ("wide_resnet", "mpl", {"method__feedback": "finite_difference", "method__feedback_batch_norm": "released"}),
    (
        "wide_resnet",
        "mpl",
        {
            "engine__precision": "bfloat16",
            "engine__channels_last": True,
            "budget__labelled_batch": 2,
            "budget__unlabelled_batch": 3,
        },
    ),
    ("wide_resnet", "mpl", {"engine__micro_batches": 2}),
]


@pytest.mark.parametrize(("model", "method", "changes"), BIT_FOR_BIT, ids=str)
def test_recomputation_changes_no_bit(model: str, method: str, changes: dict[str, Any]) -> None:
    """Weights, statistics, averages, momenta and the whole log are the same after steps with and without probes."""
    problem = IMAGES if model == "wide_resnet" else DEEP_IMAGES
    plain, again = (trained(images(method, problem, engine__recompute=on, **changes), steps=0) for on in (False, True))
    for _ in range(4):
        plain.advance()
        again.advance()

    assert_same(all_weights(plain), all_weights(again))
    assert str(plain.rows) == str(again.rows)
    assert len(plain.rows) == 2


@pytest.mark.parametrize("model", [WideResNet(depth=10, width=1), ResNet50(width=1)], ids=lambda model: model.name)
def test_a_graph_gone_through_twice_moves_statistics_once(model: WideResNet | ResNet50) -> None:
    """Each forward pass moves running statistics, none of the recomputations of two backward passes does."""
    noise = torch.ones(7, 2048)
    plain, again = network(Engine(), model), network(Engine(recompute=True), model)
    plain(SEEN, noise[:, : plain.noise_features])
    loss = again(SEEN, noise[:, : again.noise_features]).square().sum()
    first, second = (torch.autograd.grad(loss, list(again.parameters()), retain_graph=keep) for keep in (True, False))

    assert all(torch.equal(a, b) for a, b in zip(statistics(plain), statistics(again), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_frozen_pass_is_computed_again_as_frozen() -> None:
    """The flag is the forward pass's, though the backward pass comes after the block that set it, and is put back."""
    model = network(Engine(recompute=True))
    seen = []
    norm = model.blocks[0].norm_1
    norm.register_forward_pre_hook(lambda layer, _: seen.append((layer.tracking, layer.again)))
    before = statistics(model)
    with frozen_statistics(model):
        loss = model(SEEN, NOISE).sum()
    torch.autograd.grad(loss, list(model.parameters()))

    assert seen == [(False, False), (False, True)]
    assert (norm.tracking, norm.again) == (True, False)
    assert all(torch.equal(a, b) for a, b in zip(before, statistics(model), strict=True))


def kept_for_backward(engine: Engine) -> int:
    """Bytes of activations that a forward pass leaves for the backward pass, weights aside."""
    model, found = network(engine), {}
    weights_of_model = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights_of_model:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(SEEN, NOISE).sum()
    assert loss.requires_grad
    return sum(found.values())


def test_recomputation_keeps_the_input_of_each_block_only() -> None:
    """Without it, six maps for each block of WideResNet."""
    assert kept_for_backward(Engine(recompute=True)) < 0.4 * kept_for_backward(Engine())


# Chunks


@pytest.mark.parametrize("feedback", [Feedback.dot_product, Feedback.cosine, Feedback.finite_difference])
def test_without_batch_norm_chunks_change_rounding_only(feedback: Feedback) -> None:
    """In float64, three steps of MPL with passes of 5 and 9 to 14 examples in 2 chunks: weights agree to 1e-12."""
    config = Mpl(feedback=feedback)
    config.uda.weight = 1.0
    whole, chunked = (tiny_state(config) for _ in range(2))
    for learner in chunked.learners.values():
        place(learner.model, Engine(micro_batches=2), CPU)
    for _ in range(3):
        for state in (whole, chunked):
            mpl.step(state, replace(tiny_batch(9), probe=True), config)

    for role in ("teacher", "student"):
        for expected, actual in zip(weights(whole, role), weights(chunked, role), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [2, 3])
def test_chunks_are_the_computation_written_out_by_hand(count: int) -> None:
    """Logits, gradients and running statistics of a network with batch norm and dropout."""
    chunked, plain = network(Engine(micro_batches=count)), network(Engine())
    weight = torch.arange(70.0).reshape(7, 10)
    logits = chunked(SEEN, NOISE)
    gradients = torch.autograd.grad((weight * logits.square()).sum(), list(chunked.parameters()))

    start, moved, by_hand = statistics(plain), [], torch.zeros(7, 10)
    for j in range(count):
        for buffer, value in zip(plain.buffers(), start, strict=True):
            buffer.data.copy_(value)
        by_hand[j::count] = plain(SEEN[j::count], NOISE[j::count])
        moved.append(statistics(plain))
    expected = torch.autograd.grad((weight * by_hand.square()).sum(), list(plain.parameters()))

    assert torch.equal(by_hand, logits)
    for a, b in zip(expected, gradients, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-4 * float(a.abs().max()))  # sums in another order
    for wanted, found in zip(zip(*moved, strict=True), statistics(chunked), strict=True):
        torch.testing.assert_close(found, torch.stack(wanted).mean(dim=0), rtol=1e-5, atol=1e-6)


def test_chunks_under_frozen_statistics_move_none() -> None:
    """As in the labelled loss of h, with and without gradients; afterwards every layer is as it was."""
    model = network(Engine(micro_batches=3))
    before = statistics(model)
    with frozen_statistics(model):
        model(SEEN, NOISE).sum().backward()
        with torch.no_grad():
            model(SEEN, NOISE)

    assert all(torch.equal(a, b) for a, b in zip(before, statistics(model), strict=True))
    assert {(True, False, (0, 1))} == {
        (layer.tracking, layer.again, layer.chunk) for layer in model.modules() if isinstance(layer, BatchNorm)
    }


def test_evaluation_is_not_chunked() -> None:
    """Without gradients, out of training, logits are those of the whole batch, bit for bit; 1 image is enough."""
    chunked, plain = network(Engine(micro_batches=3)).eval(), network(Engine()).eval()
    with torch.no_grad():
        assert torch.equal(plain(SEEN), chunked(SEEN))

    torch.testing.assert_close(chunked(SEEN[:2]), plain(SEEN[:2]))  # finetuning, in chunks of 1


def test_a_pass_too_small_for_its_chunks_is_refused() -> None:
    """One sentence with the key and what would do, instead of statistics of a single example."""
    with pytest.raises(ValueError, match=r"engine.micro_batches = 4: 7 examples leave fewer than 2 .* at most 3"):
        network(Engine(micro_batches=4))(SEEN, NOISE)


# Settings


REFUSED = [
    ("mpl", {"method__feedback_scope": "example", "engine__recompute": True}, "engine.recompute = True: h for each"),
    ("mpl", {"method__feedback": "exact", "method__pseudo_label": "soft", "engine__micro_batches": 2},
     "engine.micro_batches = 2: h for each example"),
    ("uda", {"engine__micro_batches": 4}, "budget.labelled_batch = 6: .* at least 8, .* at most 3"),
    ("uda", {"engine__micro_batches": 3, "budget__unlabelled_batch": 5}, "budget.unlabelled_batch = 5: .* at most 2"),
    ("uda", {"engine__micro_batches": 2, "data__labels": 20, "data__train_images": 5022}, "unlabelled images = 2: "),
]  # fmt: skip


@pytest.mark.parametrize(("method", "changes", "sentence"), REFUSED, ids=lambda case: str(case)[:40])
def test_what_cannot_be_computed_again_or_chunked_is_refused(method: str, changes: Any, sentence: str) -> None:
    """By key, value and remedy."""
    with pytest.raises(ConfigError, match=sentence):
        images(method, **changes)


def test_supervised_learning_needs_no_large_unlabelled_batch() -> None:
    """What a method does not look at does not stand in the way of chunks."""
    assert images("supervised", engine__micro_batches=3, budget__unlabelled_batch=1).engine.micro_batches == 3


def test_recomputation_may_change_in_the_middle_of_a_run_and_chunks_may_not() -> None:
    """The first changes no bit, the second another training: another state, other bands, a departure."""
    plain = images("uda")
    again, chunks = images("uda", engine__recompute=True), images("uda", engine__micro_batches=2)

    assert decisive(plain) == decisive(again)
    assert decisive(plain) != decisive(chunks)
    assert settings_digest(plain) == settings_digest(again) != settings_digest(chunks)
    assert departures(plain) == departures(again)
    assert [(found.key, found.here, found.open) for found in departures(chunks) if found not in departures(plain)] == [
        ("engine.micro_batches", "2, so batch norm over chunks", False)
    ]


# What a run needs


@pytest.fixture
def _without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the images of CIFAR-10, which would outweigh a small network's, nor libraries are counted, nor gaps."""
    monkeypatch.setattr(memory, "_lost", lambda _: 1.0)
    monkeypatch.setattr(memory, "_LIBRARIES", 0)
    monkeypatch.setattr(memory, "_data", lambda _: (0, 10_000))


@pytest.mark.usefixtures("_without_data")
@pytest.mark.parametrize("method", CHOICES["method"])
def test_storages_without_data_are_those_with_data(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak counted on tensors without data is that of the same step on a CPU, to 3 % (masks, saved indices)."""
    for changes in ({}, {"engine__micro_batches": 2, "engine__recompute": True}):
        config = images(method, budget__labelled_batch=8, budget__unlabelled_batch=24, **changes)
        foretold = bytes_needed(config)
        with monkeypatch.context() as patch:
            patch.setattr(memory, "_place_of", lambda _: CPU)
            assert bytes_needed(config) == pytest.approx(foretold, rel=0.03)


@pytest.mark.usefixtures("_without_data")
def test_the_need_is_what_the_settings_make_of_it() -> None:
    """Linear in the images of a step; less with each setting; more with finetuning on a large batch."""
    usual = {"model__width": 2, "budget__labelled_batch": 16}
    few, more, most = (bytes_needed(images("uda", budget__unlabelled_batch=n, **usual)) for n in (64, 128, 192))
    wanted = dict(usual, budget__unlabelled_batch=192)
    again = bytes_needed(images("uda", engine__recompute=True, **wanted))
    chunks = bytes_needed(images("uda", engine__micro_batches=4, **wanted))
    half = bytes_needed(images("uda", engine__precision="bfloat16", **wanted))
    tuned = bytes_needed(images("uda", finetune__steps=1, finetune__batch=600, data__labels=600,
                                data__train_images=5800, **usual))  # fmt: skip

    assert most - more == pytest.approx(more - few, rel=0.01)
    assert again < 0.7 * most
    assert chunks < 0.4 * most
    assert half < 0.7 * most
    assert tuned > most


@pytest.mark.usefixtures("_without_data")
def test_the_need_is_the_activations_and_little_else() -> None:
    """What a forward pass keeps of an image, counted by autograd's own hooks, times the images of UDA's one pass."""
    config = images("uda", model__width=2, budget__labelled_batch=16, budget__unlabelled_batch=128)
    kept = kept_for_backward(Engine()) * (16 + 2 * 128) / len(SEEN)

    assert kept < bytes_needed(config) < 1.25 * kept


def test_the_data_of_a_run_are_counted() -> None:
    """CIFAR-10's images as read, and the labelled and unlabelled ones taken from them; digits and moons as they are."""
    found = memory._data(images("uda", data__labels=20, data__train_images=5060))

    assert found == (3072 * (50_000 + 20 + 40), 40)


def test_the_machine_s_memory_is_the_least_of_what_bounds_it(tmp_path: Path) -> None:
    """/proc/meminfo, and the limits of control groups above this process, of both versions; files' pages are free."""
    (tmp_path / "proc/self").mkdir(parents=True)
    assert memory_of(CPU, tmp_path) is None
    (tmp_path / "proc/meminfo").write_text("MemTotal:  8000 kB\nMemFree: 1 kB\nMemAvailable:  6000 kB\n")
    assert memory_of(CPU, tmp_path) == Memory(8000 * 1024, 6000 * 1024)

    for controllers, limit, used in (("", "memory.max", "memory.current"),
                                     ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes")):  # fmt: skip
        (tmp_path / "proc/self/cgroup").write_text(f"3:{controllers}:/a/b\n1:cpu:/\n")
        group = tmp_path / "sys/fs/cgroup" / controllers / "a"
        (group / "b").mkdir(parents=True)
        (group / "b" / limit).write_text("max\n")
        (group / limit).write_text("3000000\n")
        (group / used).write_text("2000000\n")
        (group / "memory.stat").write_text("anon 5\ninactive_file 300000\nactive_file 200000\n")

        assert memory_of(CPU, tmp_path) == Memory(3_000_000, 1_500_000)


@pytest.fixture
def _need_by_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 for a process and 1 for each image of a chunk, a third of that where blocks are computed again; in MiB."""

    def need(config: Config, side_by_side: int = 1) -> int:
        engine, count = config.engine, config.budget.labelled_batch + config.budget.unlabelled_batch
        kept = 3 if engine.recompute else 1
        copies = 2 if engine.cuda_graph else 1
        return round(2**20 * (10 + side_by_side * copies * count / engine.micro_batches / kept))

    for module in (remedies, cli_memory):
        monkeypatch.setattr(module, "bytes_needed", need)


@pytest.mark.usefixtures("_need_by_formula")
def test_a_run_says_what_it_needs_and_what_would_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line where it fits, a warning where less is free, a refusal where the machine is too small."""
    config = images("uda", budget__labelled_batch=18, budget__unlabelled_batch=72)

    def say(total: int, free: int, processes: int = 2, side_by_side: int = 1) -> str:
        monkeypatch.setattr(cli_memory, "memory_of", lambda _: Memory(total * 2**20, free * 2**20))
        cli_memory.say_what_is_needed("mine", config, processes, side_by_side)
        return capsys.readouterr().out

    assert say(4000, 2048) == "mine: needs about 100 MiB in each of 2 processes, 2.0 GiB are free\n"
    assert say(4000, 100, 1) == "mine: needs about 100 MiB, 100 MiB are free\n"
    assert say(4000, 300, 1, 3) == "mine: needs about 280 MiB, for 3 trainings side by side, 300 MiB are free\n"
    assert say(300, 199) == (
        "WARNING mine: needs about 100 MiB in each of 2 processes, and only 199 MiB are free; set budget.workers=1, "
        "or engine.recompute=true (40 MiB each), or engine.micro_batches=2 (55 MiB each), "
        "or budget.labelled_batch=9 budget.unlabelled_batch=36 (55 MiB each)\n"
    )
    with pytest.raises(ConfigError, match=r"^mine: needs about 100 MiB in each of 2 processes, and there are 199 MiB;"):
        say(199, 150)


@pytest.mark.usefixtures("_need_by_formula")
@pytest.mark.parametrize(("processes", "room", "remedy"), [
    (1, 210, "set engine.side_by_side=2, or engine.recompute=true (130 MiB), or "),
    (2, 399, "set engine.side_by_side=2, or engine.recompute=true (130 MiB each), or "),
    (2, 199, "set engine.side_by_side=1 budget.workers=1, or engine.micro_batches=8 (55 MiB each), or "),
    (2, 41, "set engine.side_by_side=1 budget.workers=1 engine.recompute=true (40 MiB)"),
])  # fmt: skip
def test_trainings_side_by_side_are_fewer_first(processes: int, room: int, remedy: str) -> None:
    """Four in each process; processes are fewer where one training in each is still too much."""
    config = images("uda", budget__labelled_batch=18, budget__unlabelled_batch=72, engine__side_by_side=4)

    assert fitting(config, processes, 4, room * 2**20).startswith(remedy)
    assert "lower engine.side_by_side = 4, or set engine.recompute=true" in names_of_settings(config)


@pytest.mark.usefixtures("_need_by_formula")
@pytest.mark.parametrize(("room", "remedy"), [
    (110, "set engine.recompute=true (70 MiB), or engine.cuda_graph=false (100 MiB), or engine.micro_batches=2 (100 M"),
    (31, "set engine.recompute=true engine.cuda_graph=false engine.micro_batches=2 (25 MiB)"),
])  # fmt: skip
def test_recorded_steps_are_given_up_before_chunks(room: int, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They change the last bits, so after what changes none; on a CPU they take nothing."""
    config = images("uda", budget__labelled_batch=18, budget__unlabelled_batch=72, engine__cuda_graph=True)
    assert "cuda_graph" not in fitting(config, 1, 1, room * 2**20)

    monkeypatch.setattr(remedies, "choose_device", lambda: torch.device("cuda"))

    assert fitting(config, 1, 1, room * 2**20).startswith(remedy)
    assert "set engine.recompute=true, or set engine.cuda_graph=false, or raise" in names_of_settings(config)


@pytest.mark.usefixtures("_need_by_formula")
@pytest.mark.parametrize(("room", "remedy"), [
    (40, ("set budget.workers=1 engine.recompute=true (40 MiB), or "
          "budget.labelled_batch=1 budget.unlabelled_batch=4 (15 MiB each)")),
    (25, "set budget.workers=1 engine.recompute=true engine.micro_batches=2 (25 MiB)"),
    (9, "no setting makes it fit; take a smaller network"),
])  # fmt: skip
def test_what_is_not_enough_alone_is_advised_together(room: int, remedy: str) -> None:
    """Fewer processes, recomputation and as few chunks as do; batches of no example are no remedy."""
    config = images("uda", budget__labelled_batch=18, budget__unlabelled_batch=72)

    assert fitting(config, 2, 1, room * 2**20) == remedy


# When it runs out


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    MemoryError(),
])  # fmt: skip
def test_an_end_of_memory_is_one_sentence(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the settings and the checkpoint that is kept; other errors pass as they are."""
    monkeypatch.chdir(tmp_path)
    job = chunk.Job("mine", images("uda"), tmp_path / "state/mine", {}, 1e30, None)
    listener = chunk.Listener(lambda _: None, print, print, lambda: False)
    (tmp_path / "state/mine/seed-3").mkdir(parents=True)
    (tmp_path / "state/mine/seed-3/checkpoint-000000007.pt").touch()

    def fail(*_: object) -> bool:
        raise error

    monkeypatch.setattr(chunk, "Trainer", fail)
    with pytest.raises(chunk.OutOfMemory) as caught:
        next(chunk.train_chunk(job, [3], listener))

    said = str(caught.value)
    assert said.startswith("mine seed-3: memory ran out; lower budget.workers = 2, or set engine.recompute=true, or ")
    assert "raise engine.micro_batches = 1" in said
    assert "budget.labelled_batch = 6" in said
    assert "checkpoint-000000007.pt" in said
    assert "\n" not in said
    monkeypatch.setattr(chunk, "Trainer", lambda *_: (_ for _ in ()).throw(RuntimeError("another")))
    with pytest.raises(RuntimeError, match=r"^another$"):
        next(chunk.train_chunk(job, [3], listener))


def test_settings_that_are_impossible_are_not_advised() -> None:
    """Two moons have neither blocks nor chunks, but a stack."""
    config = read_config(with_changes(as_mapping(images("uda")), {
        "data": {"name": "two_moons"}, "model": {"name": "moons_net"}, "budget.stack": 5, "budget.workers": 1,
        "finetune.batch": 1,
    }))  # fmt: skip

    assert names_of_settings(config) == ("lower budget.stack = 5, or take smaller batches (budget.labelled_batch = 6, "
                                         "budget.unlabelled_batch = 8)")  # fmt: skip


_LIMITED = """
import resource, torch
from repro.engine.memory import is_out_of_memory
from tests.test_small_machines import images
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 2**27, resource.RLIM_INFINITY))
from repro.models.build import build_model
from repro.seeding import Streams
try:
    build_model(images("uda").model, 10, Streams(0), "teacher")(torch.zeros(5000, 3, 32, 32), torch.ones(5000, 64))
except Exception as error:
    print(is_out_of_memory(error), type(error).__name__, str(error)[:80])
"""


def test_a_refused_allocation_of_this_machine_is_recognised() -> None:
    """With the address space limited, a forward pass of 5,000 images fails as the sentence expects."""
    done = subprocess.run([sys.executable, "-c", _LIMITED], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own code

    assert done.stdout.startswith("True"), done.stdout + done.stderr
    assert not is_out_of_memory(RuntimeError("shapes do not agree"))
    assert is_out_of_memory(torch.OutOfMemoryError())


@pytest.mark.usefixtures("_without_data")
@pytest.mark.parametrize("baseline", ["none", "moving_average"])
@pytest.mark.parametrize("feedback", ["finite_difference", "shuffled", "cosine", "dot_product", "none"])
def test_the_need_is_found_in_bfloat16_too(feedback: str, baseline: str) -> None:
    """What remembers h is float32, and so are the logits that h comes from, with data and without."""
    changes = {"method__feedback": feedback, "method__baseline": baseline if feedback != "none" else "none"}
    need, more = (bytes_needed(images("mpl", engine__precision=p, **changes)) for p in ("bfloat16", "float32"))

    assert 0 < need < more
