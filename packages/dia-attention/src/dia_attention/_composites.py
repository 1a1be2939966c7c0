"""Handwritten digits pasted on pictures: images whose evidence lies at exactly known pixels."""

from functools import cache

import torch
from sail_core.extras import needs
from torch import Tensor

from ._digits import CLASSES, digits, digits_test
from ._splits import Data, Split, to_float

_INK = 0.25  # share of ink from which a pixel belongs to the mask
_CONTRAST = 0.5  # of the background, so that a small net finds the digit in a short training
_ORDERS = {"train": 1, "validation": 2, "test": 3}  # draws of one seed that must not coincide


def composites(pictures: Split, *, seed: int, size: int, per_class: int | None = None) -> Data:
    """The training and validation digits of one seed, each on a background of its own; the class is the digit's.

    Args:
        pictures: Backgrounds, `(M, 3, H, W)` with H, W >= `size`.
        seed: Draws the digits, the backgrounds and the places.
        size: Side of the images in pixels, at least 10.
        per_class: Training images of each class, or None for all.

    Returns:
        Both splits; images `(N, 3, size, size)` in [-1, 1].

    Raises:
        ValueError: As `digits`, or `size` does not fit.
        MissingExtra: scikit-learn is not installed.
    """
    found = digits(seed=seed, per_class=per_class)
    train, _ = paste(found.train, pictures, seed=seed, order="train", size=size)
    validation, _ = paste(found.validation, pictures, seed=seed, order="validation", size=size)
    return Data(train=train, validation=validation, classes=CLASSES)


def composites_test(pictures: Split, *, size: int) -> tuple[Split, Tensor]:
    """The 500 test digits on backgrounds that do not depend on a run, and their masks `(500, size, size)`, bool."""
    return paste(digits_test(), pictures, seed=0, order="test", size=size)


def paste(source: Split, pictures: Split, *, seed: int, order: str, size: int) -> tuple[Split, Tensor]:
    """Put each digit at a random place of a random background crop.

    With t in [0, 1] the share of ink, image = (1 - t) background / 2 + t ink; the ink is white on a dark background and
    black on a bright one, and the background has half its contrast.

    Args:
        source: Digits `(N, 1, 8, 8)` in [-1, 1].
        pictures: Backgrounds `(M, 3, H, W)`.
        seed: Draws backgrounds and places, together with `order`.
        order: `"train"`, `"validation"` or `"test"`.
        size: Side of the images in pixels.

    Returns:
        Images `(N, 3, size, size)` in [-1, 1] with the digits' labels, and where the ink is: bool `(N, size, size)`.

    Raises:
        ValueError: `size` is below 10 or above the backgrounds' sides.
    """
    side = source.images.shape[-1]
    height, width = pictures.images.shape[-2:]
    if not side + 2 <= size <= min(height, width):
        raise ValueError(f"size is {size}: give {side + 2} to {min(height, width)}, the side of the backgrounds")
    generator = torch.Generator().manual_seed(seed * 1_000_003 + _ORDERS[order])
    count = len(source)

    def draw(high: int) -> list[int]:
        return torch.randint(high, (count,), generator=generator).tolist()

    rows, tops, lefts = draw(len(pictures)), draw(height - size + 1), draw(width - size + 1)
    down, right = draw(size - side + 1), draw(size - side + 1)
    images, masks = torch.empty(count, 3, size, size), torch.zeros(count, size, size, dtype=torch.bool)
    for n in range(count):
        crop = pictures.images[rows[n], :, tops[n] : tops[n] + size, lefts[n] : lefts[n] + size]
        images[n] = _CONTRAST * to_float(crop)
        place = (slice(down[n], down[n] + side), slice(right[n], right[n] + side))
        ink = (source.images[n, 0] + 1) / 2
        beneath = images[n][(slice(None), *place)]
        colour = 1.0 if beneath.mean() < 0 else -1.0
        images[n][(slice(None), *place)] = (1 - ink) * beneath + ink * colour
        masks[n][place] = ink >= _INK
    return Split(images=images, labels=source.labels), masks


@cache
def photographs(part: str) -> Split:
    """Crops of the two photographs in scikit-learn, 64 x 64: the right quarter for `"test"`, the rest for training."""
    with needs("dia-attention", "demo"):
        from sklearn.datasets import load_sample_images
    crops = []
    for picture in load_sample_images().images:
        pixels = torch.tensor(picture).permute(2, 0, 1)
        border = pixels.shape[2] * 3 // 4
        pixels = pixels[:, :, border:] if part == "test" else pixels[:, :, :border]
        tiles = pixels.unfold(1, 64, 32).unfold(2, 64, 32).permute(1, 2, 0, 3, 4)
        crops.append(tiles.reshape(-1, 3, 64, 64))
    images = torch.cat(crops)
    return Split(images=images, labels=torch.zeros(len(images), dtype=torch.int64), mirror=True)
