"""What judges a picture: the interface of a scorer, and one around any classifier.

A scorer is any object with a ``name`` and a call ``(images, items) -> scores``, one float an image. Those that read
pictures with transformers are in ``sur_adapter.integrations.scorers``.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from ._suite import Item

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Classifier", "Scorer"]


class Scorer(Protocol):
    """The interface of a scorer.

    Attributes:
        name: Stands in tables; unique in an evaluation.
    """

    name: str

    def __call__(self, images: Sequence["Image"], items: Sequence[Item]) -> list[float]:
        """Score each picture for the item it was made for; scores that are all 0 or 1 count as right and wrong."""


class Classifier:
    """Right or wrong by a classifier of your own.

    Args:
        predict: Maps pictures to one label each.
        expected: Maps an item to the label that its picture must get, such as ``lambda item: item.count``.
        name: Stands in tables.

    Example:
        >>> from sur_adapter import Item
        >>> always_two = Classifier(lambda images: [2] * len(images), lambda item: item.count)
        >>> always_two([None, None], [Item("a", "a pair", count=2), Item("b", "a trio", count=3)])
        [1.0, 0.0]
    """

    def __init__(
        self,
        predict: Callable[[Sequence["Image"]], Sequence[object]],
        expected: Callable[[Item], object],
        *,
        name: str = "classifier",
    ) -> None:
        self.predict, self.expected, self.name = predict, expected, name

    def __call__(self, images: Sequence["Image"], items: Sequence[Item]) -> list[float]:
        """Give 1.0 where the label is the expected one, else 0.0.

        Raises:
            ValueError: The classifier gave another number of labels than there are pictures.
        """
        labels = list(self.predict(images))
        if len(labels) != len(images) or len(images) != len(items):
            raise ValueError(f"{len(images)} pictures, {len(items)} items and {len(labels)} labels; expected as many")
        return [float(label == self.expected(item)) for label, item in zip(labels, items, strict=True)]
