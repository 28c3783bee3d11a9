"""Meta Pseudo Labels for networks and training loops of your own: the step of `repro.methods.mpl` on any `nn.Module`.

from repro import MetaPseudoLabels

mpl = MetaPseudoLabels(teacher, student, steps=10_000, learning_rate=0.1, feedback="cosine", uda_weight=1.0)
for (x, y), (weak, strong) in zip(labelled, unlabelled):
    metrics = mpl.step(x, y, weak, strong)
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Self, get_type_hints

import torch
from torch import Tensor, nn

from repro.config import schedules
from repro.methods import Mpl, SelfTraining, Uda, mpl
from repro.methods.state import Batch
from repro.models.ordinary import Ordinary, classes_of, refuse_modules
from repro.seeding import Draws, Streams
from repro.settings import Budget, ConfigError, Engine, Optim, Optimiser, Precision, View, settings, validated

LOOKED_EVERY = 50
"""Steps between two looks at labels and losses on a GPU, each of which makes the host wait; on a CPU every step."""

_PARTS: tuple[tuple[str, Any], ...] = (
    ("", Mpl()), ("uda_", Mpl().uda), ("teacher_pseudo_label_", Mpl().teacher_pseudo_label),
    ("", Optimiser()), ("teacher_", Optimiser()), ("student_", Optimiser()), ("", Optim()),
)  # fmt: skip
"""Prefixes of the arguments, and the settings whose names, types, ranges and defaults they have."""


def _names(kind: Any) -> list[str]:
    """Of its settings, but for the parts that have several."""
    parts = {"name", "uda", "teacher_pseudo_label", "student", "teacher"}
    return [f.name for f in dataclasses.fields(kind) if f.name not in parts]


def _arguments() -> Any:
    """All arguments as one class of settings."""
    steps, precision = (get_type_hints(kind, include_extras=True) for kind in (Budget, Engine))
    found: list[Any] = [("steps", steps["steps"]), ("precision", precision["precision"], Engine().precision)]
    for prefix, part in _PARTS:
        hints = get_type_hints(type(part), include_extras=True)
        found += [(prefix + name, hints[name], getattr(part, name)) for name in _names(type(part))]
    return settings(dataclasses.make_dataclass("Arguments", found))


_ARGUMENTS = _arguments()


class MetaPseudoLabels:
    """Trains a teacher and a student by Meta Pseudo Labels (Pham et al. 2021, Algorithm 1), a step at a time.

    With T and S the networks' class probabilities, theta and theta' the student before and after its step, eta_S its
    learning rate and L(S) its mean cross-entropy on the labelled batch (x, y), a step is (section 3, Eq. 12):

        y^_i ~ T(x_u,i)                                     pseudo labels                   pseudo_label
        theta' = theta - eta_S g,  g = grad mean_i CE(y^_i, S(x_u,i; theta))                student_...
        h = eta_S <grad L(S; theta'), g>                    or its cosine (Appendix C.3)    feedback, baseline
        teacher's loss = CE(y, T(x)) + uda_weight * UDA(weak, strong) + h mean_i CE(y^_i, T(x_u,i))

    Each network takes float [N, *E] and gives logits [N, K]. Both stay your objects and are changed in place. Batch
    norm of PyTorch's own classes normalises by the batch of each pass; the student's running statistics move once a
    step, by the batch of its pseudo labels, and not where h is measured. Dropout and whatever else draws from
    PyTorch's generators is a function of (seed, step): one mask for the whole step, and the generators stay as they
    were. Parameters without `requires_grad` stay. Weight decay is of matrices and kernels: no biases, scales, shifts.

    Args:
        teacher: any module; its parameters are its own.
        student: likewise, on the same device.
        steps: how many there will be: the length of the schedules.
        seed: of pseudo labels, dropout and mixup. The same arguments, seed and batches give the same bits.
        choices: every disputed choice, by the names, ranges and defaults of `repro.methods.Mpl`; with `uda_` those of
            the teacher's UDA (and `uda_label_smoothing`, of its labelled loss), with `teacher_pseudo_label_` those of
            its self-training; `repro.settings.Optimiser`'s for both networks, with `teacher_` or `student_` for one;
            `average_decay`, `average_start`; `precision`: bfloat16 passes, as within `torch.autocast`. This class's
            signature lists all.

    Raises:
        ConfigError: for an unknown argument, a value out of range, or what is not possible together.
        ValueError: for a module that cannot be trained so.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, *, steps: int, seed: int = 0, **choices: Any) -> None:
        given = validated(_ARGUMENTS, choices | {"steps": steps})

        def part(kind: Any, prefix: str = "", **others: Any) -> Any:
            common = {name for name in _names(kind) if kind is Optimiser and prefix + name not in choices}
            own = {name: getattr(given, name if name in common else prefix + name) for name in _names(kind)}
            return kind(**own, **others)

        uda, pseudo_label = part(Uda, "uda_"), part(SelfTraining, "teacher_pseudo_label_")
        self._config: Mpl = part(Mpl, uda=uda, teacher_pseudo_label=pseudo_label)
        optim = part(Optim, student=part(Optimiser, "student_"), teacher=part(Optimiser, "teacher_"))
        self._steps, self._seed, self._precision = steps, seed, given.precision
        self._refuse_together(given.precision, optim)
        refuse_modules(teacher, student)
        self._networks = {"teacher": Ordinary(teacher), "student": Ordinary(student)}
        self._state = mpl.init(self._networks.__getitem__, self._config, optim, steps, ())
        for role, learner in self._state.learners.items():
            if self._networks[role].noise_features is None:  # no network of this package, whose dense bias decays too
                learner.decayed = [i for i in learner.decayed if learner.parameters[i].ndim > 1]
        self._state.memory = {key: value.to(learner.parameters[0]) for key, value in self._state.memory.items()}
        self.to(learner.parameters[0].device)
        self._classes = 0  # known from the first step

    def _refuse_together(self, precision: Precision, optim: Optim | None = None) -> None:
        """What is not possible together, in the words of the settings, under the arguments' names."""
        run: Any = SimpleNamespace(method=self._config, optim=optim, budget=Budget(steps=self._steps))
        run.engine, run.data = Engine(precision=precision), SimpleNamespace(shape=())
        found = [*self._config.problems(run), *(schedules(run) if optim else [])]
        if found:
            said = re.sub(r"\b(method|engine|budget|optim)\.", "", "; ".join(found))
            raise ConfigError(re.sub(r"\b(student|teacher|uda)\.(?=[a-z])", r"\1_", said))

    def step(
        self, x: Tensor, y: Tensor, weak: Tensor, strong: Tensor, *, strong_x: Tensor | None = None,
        true_labels: Tensor | None = None, probe: bool = False,
    ) -> dict[str, Tensor]:  # fmt: skip
        """One step of student and teacher.

        Args:
            x: labelled examples as both networks learn from them, [B, *E].
            y: their classes, whole numbers 0 to K - 1, [B].
            weak: unlabelled examples, weakly augmented, [U, *E].
            strong: the same examples, strongly augmented, [U, *E].
            strong_x: another view of x, for `teacher_labelled_view="strong"`.
            true_labels: of the unlabelled examples, int64 [U], where they are known: for a metric alone.
            probe: whether to measure what costs further passes.

        Returns:
            Tensors without shape, on the device; losses in nats. `student_loss` on pseudo labels; `feedback`, h before
            baseline, sign and weight; `teacher_labelled_loss`, `uda_loss`, `teacher_pseudo_label_loss`,
            `teacher_mask_rate` (share of confident examples), where these losses are on; `feedback_scale` with
            `feedback_share`; where h is a difference of losses, or with `probe`, `student_labelled_loss` before the
            step, and `noise_floor`, what h would be had the student not moved; `feedback_gradient_norm` and
            `other_gradient_norm` with `probe`; `pseudo_label_wrong`, a share, with `true_labels`.

        Raises:
            ValueError: for tensors that do not fit, before anything changes; for a loss that is not finite, after.
        """
        now = self._state.step
        if now >= self._steps:
            raise ValueError(f"step {now + 1}: steps = {self._steps} are done; make MetaPseudoLabels with more")
        if strong_x is None and self._config.teacher_labelled_view is View.strong:
            raise ValueError("teacher_labelled_view = strong: step wants strong_x, another view of x; pass it")
        looks = self._device.type == "cpu" or now % LOOKED_EVERY == 0
        views = {"weak": weak, "strong": strong, "strong_x": strong_x, "true_labels": true_labels}
        self._refuse_tensors(x, y, views)
        self._get_ready()
        # Each pass is a region of autocast of its own, so that no cast of a weight outlives the student's step.
        with torch.enable_grad(), torch.autocast(self._device.type, enabled=False):
            self._classes = self._classes or classes_of(self._networks, x)
            if looks and bool(((y < 0) | (y >= self._classes)).any()):
                raise ValueError(f"y has labels {int(y.min())} to {int(y.max())}, the networks classes 0 to "
                                 f"{self._classes - 1}; renumber the labels, or widen the last layers")  # fmt: skip
            hidden = y.new_zeros(len(weak), dtype=torch.int64) if true_labels is None else true_labels.long()
            batch = Batch(x, y.long(), weak, strong, hidden, Draws(self._streams, now), probe, strong_labelled=strong_x)
            metrics = mpl.step(self._state, batch, self._config)
        if true_labels is None:
            del metrics["pseudo_label_wrong"]
        for bad in [name for name, value in metrics.items() if looks and not value.isfinite()]:
            raise ValueError(f"step {now + 1}: {bad} is {float(metrics[bad])}; look for NaN in the examples, lower "
                             "learning_rate or set clip_norm, and go on from a saved state_dict")  # fmt: skip
        return metrics

    def _refuse_tensors(self, x: Tensor, y: Tensor, views: dict[str, Tensor | None]) -> None:
        own = {"x": x, "y": y} | {name: view for name, view in views.items() if view is not None}
        for name, tensor in own.items():
            if not isinstance(tensor, Tensor) or tensor.device != self._device or not tensor.ndim or not len(tensor):
                is_tensor = isinstance(tensor, Tensor)
                found = f"{list(tensor.shape)} on {tensor.device}" if is_tensor else f"a {type(tensor).__name__}"
                raise ValueError(f"{name} is {found}; needs a tensor of examples on {self._device}, as the networks")
            if name in {"weak", "strong", "strong_x"} and tensor.dtype != x.dtype:
                raise ValueError(
                    f"{name} is {tensor.dtype}, x {x.dtype}; give both the same type, as of images.float() / 255"
                )
            like = {"strong": "weak", "strong_x": "x"}.get(name)
            if like and tensor.shape != own[like].shape:
                raise ValueError(f"{name} is {list(tensor.shape)} and {like} {list(own[like].shape)}; two views of the "
                                 "same examples have the same shape")  # fmt: skip
        if own["weak"].shape[1:] != x.shape[1:]:
            raise ValueError(f"weak is {list(own['weak'].shape)}, x {list(x.shape)}; give examples of the same shape")
        for name, of in (("y", "x"), ("true_labels", "weak")):
            labels, count = own.get(name), len(own[of])
            if labels is not None and (labels.is_floating_point() or labels.dtype is torch.bool or
                                       labels.shape != (count,)):  # fmt: skip
                raise ValueError(f"{name} is {labels.dtype} {list(labels.shape)}; needs a whole number for each of "
                                 f"{of}: int64 [{count}]")  # fmt: skip

    def _get_ready(self) -> None:
        """Training mode, and the precision of a `torch.autocast` around the step, else that of the argument."""
        kind, dtype = self._device.type, torch.bfloat16 if self._precision is Precision.bfloat16 else None
        if torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
            if dtype is not torch.bfloat16:
                raise ValueError(f"autocast is to {dtype}, in which small gradients are 0; use torch.bfloat16")
            self._refuse_together(Precision.bfloat16)
        for network in self._networks.values():
            network.train().autocast = dtype

    @property
    def teacher(self) -> nn.Module:
        """Your own, put into evaluation mode; the next step trains it on."""
        return self._networks["teacher"].module.eval()

    @property
    def student(self) -> nn.Module:
        """Your own, put into evaluation mode; the next step trains it on."""
        return self._networks["student"].module.eval()

    @property
    def student_average(self) -> nn.Module:
        """A copy of the student with the moving average of its weights and statistics, in evaluation mode."""
        average = self._state.learners["student"].average
        if not average:
            raise ValueError("average_decay = 0: no average is kept; set average_decay, such as 0.99")
        averaged = Ordinary(copy.deepcopy(self.student))
        averaged.load_state_dict(average)
        return averaged.module

    def to(self, device: torch.device | str) -> Self:
        """Moves both networks, their momenta and averages; the examples then lie there too."""
        for learner in self._state.learners.values():
            learner.to(torch.device(device))
        self._device = learner.parameters[0].device  # with its number: cuda is cuda:0
        self._state.memory = {name: value.to(self._device) for name, value in self._state.memory.items()}
        self._streams = Streams(self._seed, self._device)
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """All that the next step depends on, weights of both networks among it: not copies, so save or clone them."""
        return {"step": torch.tensor(self._state.step)} | self._state.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on, with the same bits, where a `state_dict` of the same networks, arguments and seed was taken.

        Raises:
            ValueError: when it is of others; nothing changes.
        """
        mine, its = ({name: list(value.shape) for name, value in each.items()} for each in (self.state_dict(), state))
        wrong = next((name for name in [*mine, *its] if mine.get(name) != its.get(name)), None)
        if wrong:
            raise ValueError(f"state_dict: {wrong} is {its.get(wrong, 'missing')}, here {mine.get(wrong, 'missing')}; "
                             "make MetaPseudoLabels with the networks and arguments it was saved with")  # fmt: skip
        self._state.load_state_dict(dict(state), int(state["step"]))


_SHOWN = [p.replace(kind=p.KEYWORD_ONLY, annotation=p.empty, default=getattr(p.default, "value", p.default))
          for p in inspect.signature(_ARGUMENTS).parameters.values()]  # fmt: skip
_OWN = list(inspect.signature(MetaPseudoLabels).parameters.values())
MetaPseudoLabels.__signature__ = inspect.Signature([*_OWN[:2], *_SHOWN, _OWN[3]])  # type: ignore[attr-defined]
