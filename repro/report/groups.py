"""Which runs belong together, and what is compared within each group."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Runs whose names start alike: the same data and setting, different methods."""

    key: str  # of its figures
    prefix: str
    heading: str
    intro: str
    reference: str  # the arm that paired differences are taken to
    needs: str = ""  # an arm without which nothing of the group is shown
    good: tuple[float, ...] = ()  # accuracies that count as a good separator; () where that has no meaning
    boundary: tuple[str, ...] = ()  # arms whose decision regions are drawn
    images: bool = False  # whether losses and all networks are shown
    again: str = ""  # prefix of the recorded runs of which some seeds were trained again


STATED = "moons_stated_"
"""The setting around which the sweep varies one thing at a time."""

CIFAR10 = (
    Group(
        key="cifar10_paper",
        prefix="cifar10_paper_",
        heading="CIFAR-10 with 4,000 labels, the paper's recipe",
        intro="WideResNet-28-2; training images 5,000 to 8,999 labelled, the 41,000 after them unlabelled; settings of "
        "the paper's Tables 5 to 8 and Appendix C. The final weights count. What an arm does otherwise is listed under "
        "the departures; with a reduced budget it judges orderings only.",
        reference="mpl_no_feedback",
        images=True,
    ),
    Group(
        key="cifar10_released",
        prefix="cifar10_released_",
        heading="CIFAR-10 with 4,000 labels, the released recipe",
        intro="The settings of the authors' released code, which are not the paper's: among others all 50,000 images "
        "unlabelled, 128 + 896 images a step, averaged weights. The released code reports its best checkpoint on the "
        "test set; here the final weights count.",
        reference="mpl_no_feedback",
        images=True,
    ),
    Group(
        "cifar10_arms", "cifar10_arms_", "CIFAR-10 with 4,000 labels, the released recipe at a twentieth of its steps",
        "**A reduced budget, orderings only**: paired by seed, which of two arms is better at this budget.",
        reference="mpl_no_feedback", images=True,
    ),
    Group(
        key="cifar10_cpu",
        prefix="cifar10_cpu_",
        heading="CIFAR-10 with 4,000 labels, at a CPU's budget",
        intro="**A reduced budget, orderings only.** Every arm is far shorter than the paper's and the released "
        "recipe, so its accuracy says nothing about the paper's numbers. Which of two arms is better at this budget "
        "can be said, paired by seed.",
        reference="mpl_no_feedback",
        images=True,
    ),
)  # fmt: skip

_SVHN = {
    "paper": "by the paper's recipe (Tables 5 to 8, Appendix C); the first 1,000 images of `train` are labelled.",
    "released": "in the form of the released code's command for CIFAR-10: its authors released none for SVHN.",
}
SVHN = tuple(
    Group(f"svhn_{part}", f"svhn_{part}_", f"SVHN with 1,000 labels: {part}", f"Trained {intro}",
          reference="mpl_no_feedback", images=True)
    for part, intro in _SVHN.items()
)  # fmt: skip

FILES = (
    Group(
        "imagenet", "imagenet_", "ImageNet with 10 % of the labels: our runs",
        "ResNet-50 on images of 224×224 pixels, 1,000 classes; the customary 10 % of the labels.",
        reference="mpl_no_feedback", images=True,
    ),
    Group(
        "tiny_imagenet", "tiny_imagenet_", "Small ImageNet: photographs of 200 classes, few labels",
        "Photographs of 64×64 pixels, a reduced network. Not a data set of the paper: it can judge which of two "
        "methods is better here, not the paper's numbers.",
        reference="mpl_no_feedback", images=True,
    ),
    Group(
        "folder", "folder_", "Folders of images",
        "A user's own images, at a small budget. Not a data set of the paper.",
        reference="mpl_no_feedback", images=True,
    ),
)  # fmt: skip
"""Images that stay in their files."""

GROUPS = (
    *CIFAR10,
    *SVHN,
    Group(
        key="moons_stated",
        prefix=STATED,
        heading="Two moons, as the paper states them",
        intro="2,000 points in two clusters, 6 of them labelled; a 2–8–8–2 net with sigmoids whose weights start "
        "within ±0.1; plain SGD at learning rate 0.1 (paper, section 3.1). What the paper leaves open is listed "
        "under the departures. Each seed is a fresh data set.",
        reference="mpl_no_feedback",
        good=(0.95, 0.99),
        boundary=("supervised", "pseudo_label", "mpl"),
    ),
    Group(
        key="moons_tuned",
        prefix="moons_tuned_",
        heading="Two moons, tuned by us, with a consistency loss",
        intro="**Not the paper's setting.** Activation, start, learning rate and steps were tuned by us, and the "
        "teacher has a consistency loss that the paper's toy experiment does not have. A good result here therefore "
        "says something about Meta Pseudo Labels only next to the same training with the feedback switched off "
        "(h = 0), to which every arm is compared.",
        reference="mpl_no_feedback",
        needs="mpl_no_feedback",
        good=(0.95, 0.99),
        boundary=("supervised", "pseudo_label", "mpl_no_feedback", "mpl"),
    ),
    Group(
        key="moons_feedback_only",
        prefix="moons_feedback_only_",
        heading="Two moons, feedback as the teacher's only source of labels",
        intro="The teacher has no supervised loss, so that whatever it knows of the classes reached it through the "
        "student's feedback. Not a setting of the paper: a test of whether the feedback can carry information at all.",
        reference="no_feedback",
        good=(0.95, 0.99),
        boundary=("no_feedback", "mpl", "exact"),
    ),
    Group(
        key="moons_sweep",
        prefix="moons_sweep_",
        heading="Two moons, what the paper leaves open",
        intro="The paper gives neither the noise nor the batch size. Each is varied with everything else as in the "
        "stated setting; the number of steps is swept by the learning curves above. Every arm is compared to the "
        "supervised one at the same value.",
        reference="supervised",
        good=(0.95, 0.99),
    ),
    Group(
        key="moons_tuning",
        prefix="moons_tuning_",
        heading="Two moons, how the weight of the feedback was chosen",
        intro="The weight that multiplies h where feedback is the teacher's only source of labels: 1, 10 and 100, on "
        "data sets 1000 to 1049. The arms above use 10 and are judged on data sets 0 to 99.",
        reference="",
        good=(0.95, 0.99),
    ),
    *FILES,
    Group(
        key="digits",
        prefix="digits_",
        heading="Handwritten digits, few labels",
        intro="1,797 digits of 8×8 pixels, a small convolutional network, seconds to minutes on a CPU. Not a data set "
        "of the paper: it can judge which of two methods is better here, not the paper's numbers.",
        reference="mpl_no_feedback",
        images=True,
    ),
    Group(
        key="digits_long",
        prefix="digits_long_",
        heading="Handwritten digits, five times as long",
        intro="3,000 steps instead of 600, all else as above: whether a student that starts from nothing catches up "
        "with its teacher when it is given time.",
        reference="mpl_no_feedback",
        images=True,
    ),
    Group(
        key="digits_quick",
        prefix="digits_quick_",
        heading="Handwritten digits, the first seeds again",
        intro="The plan `quick` trains the first seeds of a few recorded runs again, on the machine at hand. Same "
        "settings, same seeds: what differs is the order of sums in the processor's arithmetic, which training "
        "amplifies. On the machine that recorded them, all predictions are equal.",
        reference="",
        again="digits_",
    ),
)

OTHER = Group(
    "other", "", "Other runs", "Recorded runs that belong to none of the groups above.", reference="", images=True
)


def grouped(names: Iterable[str]) -> list[tuple[Group, list[str]]]:
    """Every name in exactly one group; groups without runs are left out."""
    members: dict[str, list[str]] = {group.key: [] for group in (*GROUPS, OTHER)}
    for name in sorted(names):
        fitting = [group for group in (*GROUPS, OTHER) if name.startswith(group.prefix)]
        members[max(fitting, key=lambda group: len(group.prefix)).key].append(name)
    return [(group, members[group.key]) for group in (*GROUPS, OTHER) if members[group.key]]
