"""scikit-learn's handwritten digits; the test split is out of reach while choices are made."""

from functools import cache

import torch
from sail_core.extras import needs

from ._splits import Data, Split, by_class, divide

CLASSES = tuple("0123456789")
TEST_PER_CLASS = 50
VALIDATION_PER_CLASS = 30
_TEST_SEED = 20260101  # the test split belongs to the protocol, not to a run: no option reaches it


def digits(*, seed: int, per_class: int | None = None) -> Data:
    """The training and validation digits of one seed, stratified by class.

    50 images of each class are the test split and are the same for every seed; of the others the seed draws 30 of each
    class for validation and leaves the rest (94 to 103 of each class) for training. A smaller `per_class` keeps the
    first so many of each class in the seed's order, so that reduced training sets are nested.

    The digits were written by 13 people whom the data set does not name, so one hand can be on both sides of a split.

    Args:
        seed: Draws validation and training images; >= 0.
        per_class: Training images of each class, or None for all.

    Returns:
        Both splits; images `(N, 1, 8, 8)` in [-1, 1], the 17 grey levels 0..16 as `level / 8 - 1`, so -1 is paper.

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
    everything, rows = _load()
    return divide(
        everything.select(torch.cat([members[TEST_PER_CLASS:] for members in rows])),
        CLASSES,
        seed=seed,
        validation_per_class=VALIDATION_PER_CLASS,
        per_class=per_class,
    )


def digits_test() -> Split:
    """The 500 test digits, the same for every seed: to be read once, after every choice is made."""
    everything, rows = _load()
    return everything.select(torch.cat([members[:TEST_PER_CLASS] for members in rows]))


@cache
def _load() -> tuple[Split, list[torch.Tensor]]:
    """All digits, and for each class its image numbers in the order of the fixed test seed."""
    with needs("dia-attention", "demo"):
        from sklearn.datasets import load_digits
    raw = load_digits()
    images = torch.from_numpy(raw.images).to(torch.float32).unsqueeze(1) / 8 - 1
    labels = torch.from_numpy(raw.target).to(torch.int64)
    return Split(images=images, labels=labels), by_class(labels, len(CLASSES), seed=_TEST_SEED)
