"""scikit-learn's handwritten digits as tensors; the test split is out of reach while choices are made."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from sail_core.extras import needs
from torch import Tensor

CLASSES = 10
TEST_PER_CLASS = 50
VALIDATION_PER_CLASS = 30
_TEST_SEED = 20260101  # the test split belongs to the protocol, not to a run: no option reaches it


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images with their labels.

    Attributes:
        images: `(N, 1, 8, 8)`, float32 in [-1, 1]: the 17 grey levels 0..16 as `level / 8 - 1`, so -1 is paper.
        labels: `(N,)`, int64 in 0..9.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Split":
        """The same split on another device."""
        return Split(images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, kw_only=True)
class Digits:
    """What a training may see: a training and a validation split, never the test split."""

    train: Split
    validation: Split


def digits(*, seed: int, per_class: int | None = None) -> Digits:
    """The training and validation digits of one seed, stratified by class.

    50 images of each class are the test split and are the same for every seed; of the others the seed draws 30 of each
    class for validation and leaves the rest (94 to 103 of each class) for training. A smaller `per_class` keeps the
    first so many of each class in the seed's order, so that reduced training sets are nested.

    The digits were written by 13 people whom the data set does not name, so one hand can be on both sides of a split.

    Args:
        seed: Draws validation and training images; >= 0.
        per_class: Training images of each class, or None for all.

    Returns:
        Both splits; images `(N, 1, 8, 8)` in [-1, 1].

    Raises:
        ValueError: `per_class` is below 1 or above what the smallest class has left.
        MissingExtra: scikit-learn is not installed.

    Example:
        >>> data = digits(seed=0, per_class=20)
        >>> tuple(data.train.images.shape), len(data.validation)
        ((200, 1, 8, 8), 300)

    References:
        E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    images, by_class = _load()
    first = TEST_PER_CLASS + VALIDATION_PER_CLASS
    smallest = min(map(len, by_class)) - first
    if per_class is not None and not 1 <= per_class <= smallest:
        raise ValueError(f"per_class is {per_class}: give 1 to {smallest} training images a class, or None for all")
    generator = torch.Generator().manual_seed(seed)
    train, validation = [], []
    for members in by_class:
        rest = members[TEST_PER_CLASS:]
        rest = rest[torch.randperm(len(rest), generator=generator)]
        validation.append(rest[:VALIDATION_PER_CLASS])
        train.append(rest[VALIDATION_PER_CLASS:][:per_class])
    return Digits(train=_select(images, train), validation=_select(images, validation))


def digits_test() -> Split:
    """The 500 test digits, the same for every seed: to be read once, after every choice is made."""
    images, by_class = _load()
    return _select(images, [members[:TEST_PER_CLASS] for members in by_class])


def batches(
    split: Split, batch_size: int, *, seed: int, epoch: int, augment: bool = False, start: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one epoch from position `start`: a pure function of its arguments.

    Args:
        split: Images `(N, C, H, W)` with labels `(N,)`.
        batch_size: Images a batch; the last batch may be smaller.
        seed: The run's seed.
        epoch: Counts from 0; with the seed it fixes the order and the crops.
        augment: Shift every image by at most one eighth of its size (a random crop with padding; no flips, since a
            mirrored digit is another sign).
        start: The first batch to give, so that a resumed epoch continues where it stopped.

    Yields:
        `(B, C, H, W)` images and `(B,)` labels.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(split), generator=generator)
    pad = max(1, split.images.shape[-1] // 8) if augment else 0
    shifts = torch.randint(0, 2 * pad + 1, (len(split), 2), generator=generator)
    for first in range(start * batch_size, len(split), batch_size):
        chunk = order[first : first + batch_size]
        rows = chunk.to(split.labels.device)
        images = split.images[rows]
        yield (_shift(images, shifts[chunk], pad) if pad else images), split.labels[rows]


def _shift(images: Tensor, shifts: Tensor, pad: int) -> Tensor:
    """Crop each padded image at its own offset; images (B, C, H, W), shifts (B, 2) in 0..2*pad."""
    count, channels, height, width = images.shape
    padded = torch.nn.functional.pad(images, (pad,) * 4, value=-1.0)
    shifts = shifts.to(images.device)
    rows = shifts[:, :1] + torch.arange(height, device=images.device)  # (B, H)
    columns = shifts[:, 1:] + torch.arange(width, device=images.device)  # (B, W)
    sample = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]


@cache
def _load() -> tuple[Split, list[Tensor]]:
    """All digits, and for each class its image numbers in the order of the fixed test seed."""
    with needs("dia-attention", "demo"):
        from sklearn.datasets import load_digits
    raw = load_digits()
    images = torch.from_numpy(raw.images).to(torch.float32).unsqueeze(1) / 8 - 1
    labels = torch.from_numpy(raw.target).to(torch.int64)
    generator = torch.Generator().manual_seed(_TEST_SEED)
    by_class = []
    for label in range(CLASSES):
        members = (labels == label).nonzero().flatten()
        by_class.append(members[torch.randperm(len(members), generator=generator)])
    return Split(images=images, labels=labels), by_class


def _select(everything: Split, members: list[Tensor]) -> Split:
    rows = torch.cat(members)
    return Split(images=everything.images[rows], labels=everything.labels[rows])
