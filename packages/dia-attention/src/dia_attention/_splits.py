"""Labelled images, how they are divided, and the batches of an epoch."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images with their labels.

    Attributes:
        images: `(N, C, H, W)`, float32 in [-1, 1], or uint8 in 0..255 for large sets, which `batches` maps to [-1, 1].
        labels: `(N,)`, int64 class numbers.
        mirror: Whether a mirrored image is of the same class: true for photographs, false for digits.
    """

    images: Tensor
    labels: Tensor
    mirror: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Split":
        """The same split on another device."""
        return Split(images=self.images.to(device), labels=self.labels.to(device), mirror=self.mirror)

    def select(self, rows: Tensor) -> "Split":
        """The images and labels of some rows."""
        return Split(images=self.images[rows], labels=self.labels[rows], mirror=self.mirror)

    def fingerprint(self) -> str:
        """SHA-256 of shape, type and content, so that a run notices other data."""
        digest = hashlib.sha256(f"{self.images.dtype} {tuple(self.images.shape)} {self.mirror}".encode())
        for tensor in (self.images, self.labels):
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a training may see: a training and a validation split, never the test split.

    Attributes:
        train: Training images.
        validation: Validation images, for every choice.
        classes: The names of the classes, in the order of the labels.
    """

    train: Split
    validation: Split
    classes: tuple[str, ...]


def by_class(labels: Tensor, count: int, *, seed: int) -> list[Tensor]:
    """The rows of each of `count` classes, each in an order of the seed's."""
    generator = torch.Generator().manual_seed(seed)
    members = [(labels == label).nonzero().flatten() for label in range(count)]
    return [rows[torch.randperm(len(rows), generator=generator)] for rows in members]


def divide(
    everything: Split, classes: Sequence[str], *, seed: int, validation_per_class: int, per_class: int | None
) -> Data:
    """Draw a validation split and a training split of equal shares of all classes.

    Args:
        everything: What may be used for training and validation.
        classes: Names of the classes.
        seed: Draws both; a smaller `per_class` keeps the first so many of each class in the seed's order, so that
            reduced training sets are nested and have the same validation split.
        validation_per_class: Validation images of each class.
        per_class: Training images of each class, or None for all that are left.

    Returns:
        Both splits, disjoint.

    Raises:
        ValueError: The smallest class has too few images.
    """
    members = by_class(everything.labels, len(classes), seed=seed)
    left = min(map(len, members)) - validation_per_class
    if left < 1:
        raise ValueError(
            f"a class has {left + validation_per_class} images; {validation_per_class} are for validation, "
            "and at least one must be left for training"
        )
    if per_class is not None and not 1 <= per_class <= left:
        raise ValueError(f"per_class is {per_class}: give 1 to {left} training images a class, or None for all")
    train = [rows[validation_per_class:][:per_class] for rows in members]
    validation = [rows[:validation_per_class] for rows in members]
    return Data(
        train=everything.select(torch.cat(train)),
        validation=everything.select(torch.cat(validation)),
        classes=tuple(classes),
    )


def to_float(images: Tensor) -> Tensor:
    """Map uint8 images to float32 in [-1, 1]; float images stay as they are."""
    return images if images.is_floating_point() else images.to(torch.float32) / 127.5 - 1


def batches(
    split: Split, batch_size: int, *, seed: int, epoch: int, augment: bool = False, start: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one epoch from position `start`: a pure function of its arguments.

    Args:
        split: Images `(N, C, H, W)` with labels `(N,)`.
        batch_size: Images a batch; the last batch may be smaller.
        seed: The run's seed.
        epoch: Counts from 0; with the seed it fixes the order, the crops and the flips.
        augment: Shift every image by at most one eighth of its size (a random crop with padding), and mirror half of
            them where the split allows it.
        start: The first batch to give, so that a resumed epoch continues where it stopped.

    Yields:
        `(B, C, H, W)` images, float32 in [-1, 1], and `(B,)` labels.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(split), generator=generator)
    pad = max(1, split.images.shape[-1] // 8) if augment else 0
    shifts = torch.randint(0, 2 * pad + 1, (len(split), 2), generator=generator)
    flips = torch.rand(len(split), generator=generator) < 0.5
    for first in range(start * batch_size, len(split), batch_size):
        chunk = order[first : first + batch_size]
        rows = chunk.to(split.labels.device)
        images = to_float(split.images[rows])
        if pad:
            images = _shift(images, shifts[chunk], pad)
        if augment and split.mirror:
            images = torch.where(flips[chunk].to(images.device)[:, None, None, None], images.flip(-1), images)
        yield images, split.labels[rows]


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
