"""Meta Pseudo Labels in a training loop of your own: 50 labels of scikit-learn's digits, a plain `nn.Sequential`.

Trains it on the labels alone and by MPL, half a minute on one core: python examples/own_loop.py [steps]
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from repro import MetaPseudoLabels


def network(seed: int) -> nn.Module:
    """Images [N, 1, 8, 8] to logits [N, 10]."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((1, 16, 1), (16, 32, 2), (32, 32, 1)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(32, 10))


def moved(images: Tensor, pixels: float, turn: float) -> Tensor:
    """Each image shifted by up to so many of its 8 pixels, stretched and sheared by up to `turn`."""
    maps = torch.eye(2, 3) + (2 * torch.rand(len(images), 2, 3) - 1) * torch.tensor([turn, turn, pixels / 4])
    return functional.grid_sample(images, functional.affine_grid(maps, list(images.shape), False), align_corners=False)


def main() -> None:
    """Trains both ways side by side, on the same batches."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    torch.set_num_threads(1)  # several would wait for each other on so small a network
    digits = load_digits()
    images, labels = torch.tensor(digits.images[:, None] / 16).float(), torch.tensor(digits.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    test, rest = order[:597], order[597:]
    train = torch.cat([rest[labels[rest] == k][:5] for k in range(10)])
    mpl = MetaPseudoLabels(network(1), network(2), steps=steps, learning_rate=0.1, schedule="cosine", momentum=0.9,
                           weight_decay=5e-4, feedback="cosine", uda_weight=1.0, uda_temperature=0.5,
                           pseudo_label_view="weak", student_view="weak", average_decay=0.98)  # fmt: skip
    alone = network(1)
    optimiser = torch.optim.SGD(alone.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        x, y = moved(images[train], 1, 0.1), labels[train]
        u = images[rest[torch.randint(len(rest), (128,))]]
        mpl.step(x, y, weak=moved(u, 1, 0.1), strong=moved(u, 1.5, 0.5))
        alone.zero_grad()
        functional.cross_entropy(alone(x), y).backward()
        optimiser.step()
        schedule.step()
    for name, model in {"supervised": alone.eval(), "MPL": mpl.student_average, "its teacher": mpl.teacher}.items():
        right = model(images[test]).argmax(-1) == labels[test]
        print(f"{name}: {100 * right.float().mean():.1f} % of {len(test)} test images")


if __name__ == "__main__":
    main()
