"""Real handwritten digits: tinted, and several on a canvas."""

from dataclasses import dataclass

import torch
from sail_core.extras import needs
from torch import Tensor

_TINTS = torch.tensor(  # red, green, blue, yellow, purple, white
    [[1.0, 0.1, 0.1], [0.1, 0.9, 0.2], [0.15, 0.35, 1.0], [1.0, 0.9, 0.1], [0.7, 0.1, 0.95], [1.0, 1.0, 1.0]]
)
_TRAIN = 1200  # scikit-learn lists the digits by writer: the rest was written by others


@dataclass(frozen=True)
class Digits:
    """Digits of one part of the writers: `pixels` (n, 8, 8) in [0, 1] and `labels` (n,)."""

    pixels: Tensor
    labels: Tensor

    def pick(self, wanted: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one picture for each wanted label, with replacement: (B, 8, 8)."""
        order = torch.argsort(self.labels, stable=True)
        counts = torch.bincount(self.labels, minlength=10)
        starts = counts.cumsum(0) - counts
        within = (torch.rand(len(wanted), generator=generator) * counts[wanted]).long()
        return self.pixels[order[starts[wanted] + within]]


def load_digits() -> tuple[Digits, Digits]:
    """scikit-learn's 1,797 digits, in a part to train on and a part to check with."""
    with needs("sur-adapter", "demo"):
        from sklearn import datasets
    found = datasets.load_digits()
    pixels = torch.tensor(found.images, dtype=torch.float32) / 16
    labels = torch.tensor(found.target, dtype=torch.long)
    return Digits(pixels[:_TRAIN], labels[:_TRAIN]), Digits(pixels[_TRAIN:], labels[_TRAIN:])


def tint(pixels: Tensor, colours: Tensor) -> Tensor:
    """Ink (B, 8, 8) in [0, 1] and colour indices (B,) to pictures (B, 3, 8, 8) in [-1, 1]."""
    return 2 * pixels[:, None] * _TINTS[colours][:, :, None, None] - 1


def ink_colour(pictures: Tensor) -> Tensor:
    """The nearest of the six colours to the ink of each picture (B, 3, 8, 8): indices (B,)."""
    ink = (pictures.clamp(-1, 1) + 1) / 2
    weight = ink.amax(1, keepdim=True)
    mean = (ink * weight).sum((2, 3)) / weight.sum((2, 3)).clamp_min(1e-6)
    unit = torch.nn.functional.normalize(mean, dim=1)
    return (unit @ torch.nn.functional.normalize(_TINTS, dim=1).T).argmax(1)


def canvas(digits: Digits, counts: Tensor, generator: torch.Generator) -> Tensor:
    """Canvases (B, 1, 16, 16) in [-1, 1] with `counts` (B,) digits of any kind in different quarters."""
    batch = len(counts)
    drawn = digits.pick(torch.randint(10, (4 * batch,), generator=generator), generator).reshape(batch, 4, 8, 8)
    ranks = torch.rand(batch, 4, generator=generator).argsort(1)
    quarters = drawn * (ranks < counts[:, None])[:, :, None, None]
    rows = quarters.reshape(batch, 2, 2, 8, 8).permute(0, 1, 3, 2, 4)
    return 2 * rows.reshape(batch, 1, 16, 16) - 1
