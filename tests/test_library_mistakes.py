"""What MPL as a library refuses: one sentence that names the argument and the remedy, and nothing has changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from repro import MetaPseudoLabels
from tests.test_library import K, examples, plain, ready
from tests.tiny import assert_same


class Detached(nn.Module):
    """Cuts the gradient off: such a network would be decayed alone, without a word."""

    def forward(self, x: Tensor) -> Tensor:
        """The same numbers."""
        return x.detach()


LAST = nn.Linear(6 * 16, K).double()
LIKE_THE_NETWORKS = "needs a tensor of examples on cpu, as the networks"


@pytest.mark.parametrize(("choices", "says"), [
    ({"feedbak": "cosine"}, "feedbak is not a setting; did you mean 'feedback'?"),
    ({"learning_rate": 5000.0}, r"^learning_rate = 5000.0: must lie in \[1e-12, 1,000\]"),
    ({"uda_temperature": 0.0}, "^uda_temperature = 0.0: must lie in"),
    ({"feedback": "exact"}, "^feedback = exact: .* wants pseudo_label = soft"),
    ({"student_warmup_steps": 9}, r"^student_wait_steps \+ student_warmup_steps = 9: leaves none of steps = 9"),
    ({"feedback_scope": "example", "precision": "bfloat16"}, "^precision = bfloat16: .* use float32"),
    ({"teacher": nn.ReLU()}, "teacher has no parameter that requires a gradient; give it one"),
    ({"teacher": nn.DataParallel(plain(0))}, "teacher is a DataParallel; give the plain module"),
    ({"teacher": plain(0).bfloat16()}, "teacher has parameters of .*bfloat16.*; put all on one device"),
    ({"teacher": nn.LazyLinear(K)}, "teacher has lazy layers; pass a batch through it first"),
    ({"teacher": nn.Sequential(LAST), "student": nn.Sequential(LAST)},
     "student.0.weight shares its memory with teacher.0.weight.* copy.deepcopy"),
])  # fmt: skip
def test_arguments(choices: dict[str, Any], says: str) -> None:
    """Settings under the names of the arguments, and modules that no step can train."""
    with pytest.raises(ValueError, match=says):
        MetaPseudoLabels(**{"teacher": plain(1), "student": plain(2), "steps": 9} | choices)


@pytest.mark.parametrize(("place", "change", "says"), [
    (1, lambda y: y + 8, "y has labels 8 to 10, the networks classes 0 to 9; renumber"),
    (1, lambda y: y.double(), r"y is torch.float64 \[6\]; needs a whole number for each of x: int64 \[6\]"),
    (1, lambda y: y[:5], r"y is torch.int64 \[5\]; needs"),
    (3, lambda strong: strong.byte(), r"strong is torch.uint8, x torch.float\d+; give both the same type"),
    (3, lambda strong: strong[:5], r"strong is \[5, 3, 8, 8\] and weak \[8, 3, 8, 8\]; two views"),
    (0, lambda x: x[..., :7], r"weak is \[8, 3, 8, 8\], x \[6, 3, 8, 7\]; give examples of the same"),
    (0, lambda x: x[:0], f"x is .0, 3, 8, 8. on cpu; {LIKE_THE_NETWORKS}"),
    (2, lambda weak: weak[:0], f"weak is .0, 3, 8, 8. on cpu; {LIKE_THE_NETWORKS}"),
    (0, lambda x: x.numpy(), f"x is a ndarray; {LIKE_THE_NETWORKS}"),
    (0, lambda x: x.to("meta"), f"x is .6, 3, 8, 8. on meta; {LIKE_THE_NETWORKS}"),
])  # fmt: skip
def test_a_batch(place: int, change: Callable[[Tensor], Any], says: str) -> None:
    """One of x, y, weak and strong does not fit."""
    library, batch = ready(), examples()
    before = copy.deepcopy(library.state_dict())
    batch[place] = change(batch[place])
    with pytest.raises(ValueError, match=says):
        library.step(*batch)
    assert_same(before, library.state_dict())


@pytest.mark.parametrize(("student", "says"), [
    (nn.Sequential(plain(2), nn.Linear(K, 7).double()), "teacher gives logits for 10 classes, student for 7; make"),
    (nn.Conv2d(3, K, 1).double(), r"student gives \[6, 10, 8, 8\] for x .*; needs logits \[6, K\]"),
    (nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True), plain(2)).double(),
     "student: a training pass changes the buffer 0.running_mean"),
    (nn.Sequential(plain(2), Detached()), r"student's logits, torch.float64, have no gradient; leave out detach"),
])  # fmt: skip
def test_networks(student: nn.Module, says: str) -> None:
    """Found by a look before the first step."""
    before = copy.deepcopy(student.state_dict())
    with pytest.raises(ValueError, match=says):
        MetaPseudoLabels(plain(1), student, steps=9).step(*examples())
    assert_same(before, student.state_dict())


@pytest.mark.parametrize("wrong", [torch.zeros(5).long(), torch.zeros(8), torch.zeros(8, 1).long()])
def test_true_labels_of_other_examples_are_refused(wrong: Tensor) -> None:
    """Fewer of them gave a share of wrong pseudo labels, of those that there were."""
    with pytest.raises(ValueError, match=r"true_labels is .*; needs a whole number for each of weak: int64 \[8\]"):
        ready().step(*examples(), true_labels=wrong)


def test_what_comes_too_late() -> None:
    """A loss that is not finite, more steps than were said, an average or a state that is not there."""
    library = MetaPseudoLabels(plain(1), plain(2), steps=1)
    x, y, weak, strong = examples()
    with pytest.raises(ValueError, match="step 1: student_loss is nan; look for NaN in the examples, lower"):
        library.step(x, y, weak, strong * torch.nan)
    with pytest.raises(ValueError, match="step 2: steps = 1 are done; make MetaPseudoLabels with more"):
        library.step(x, y, weak, strong)
    with pytest.raises(ValueError, match="average_decay = 0: no average is kept; set average_decay"):
        _ = library.student_average
    with pytest.raises(ValueError, match=r"state_dict: teacher.momentum.0 is missing, here \[6, 3, 3, 3\]; make"):
        ready().load_state_dict(library.state_dict())
