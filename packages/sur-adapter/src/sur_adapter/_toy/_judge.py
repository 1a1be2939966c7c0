"""The judge: a classifier that learned from real pictures says what a generated one shows."""

from dataclasses import dataclass
from typing import Any

import torch
from sail_core.extras import needs
from torch import Tensor

from ._digits import Digits, canvas, ink_colour


@dataclass(frozen=True)
class Judge:
    """Digits and counts by support vector machines trained on real pixels, colours by the nearest tint.

    Attributes:
        digit_accuracy: On real digits of other writers.
        count_accuracy: On canvases of them.
    """

    digit_machine: Any
    count_machine: Any
    digit_accuracy: float
    count_accuracy: float

    def digits(self, pictures: Tensor) -> Tensor:
        """Tinted pictures (B, 3, 8, 8) to digits (B,)."""
        ink = (pictures.amax(1).clamp(-1, 1) + 1) / 2
        return torch.from_numpy(self.digit_machine.predict(ink.flatten(1).numpy())).long()

    def counts(self, pictures: Tensor) -> Tensor:
        """Canvases (B, 1, 16, 16) to counts less one (B,)."""
        return torch.from_numpy(self.count_machine.predict(pictures.flatten(1).numpy())).long()

    def colours(self, pictures: Tensor) -> Tensor:
        """Tinted pictures (B, 3, 8, 8) to colour indices (B,)."""
        return ink_colour(pictures)


def train_judge(train: Digits, check: Digits) -> Judge:
    """Fit on the training writers, measure on the others."""
    with needs("sur-adapter", "demo"):
        from sklearn.svm import SVC
    digit_machine = SVC(C=10.0, gamma=0.25).fit(train.pixels.flatten(1).numpy(), train.labels.numpy())
    generator = torch.Generator().manual_seed(0)
    counts = torch.arange(1600) % 4
    many = canvas(train, counts + 1, generator).flatten(1).numpy()
    count_machine = SVC(C=10.0, gamma=0.002).fit(many, counts.numpy())
    others = torch.arange(400) % 4
    held = canvas(check, others + 1, generator).flatten(1).numpy()
    return Judge(
        digit_machine,
        count_machine,
        float(digit_machine.score(check.pixels.flatten(1).numpy(), check.labels.numpy())),
        float(count_machine.score(held, others.numpy())),
    )
