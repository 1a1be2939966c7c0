"""Score the pictures of base and adapter for a suite, and compare them prompt by prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ._paired import Paired, paired
from ._suite import Item
from .scorers import Scorer

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Comparison:
    """What the scorers found.

    Attributes:
        scores: By scorer, by ``"base"`` and ``"adapter"``, tables ``(prompts, seeds)``.
        paired: By scorer, the comparison.
    """

    scores: Mapping[str, Mapping[str, Tensor]]
    paired: Mapping[str, Paired]

    def as_metrics(self) -> dict[str, Any]:
        """Give the comparisons as nested numbers for a report."""
        return {name: asdict(found) for name, found in self.paired.items()}


def compare(
    items: Sequence[Item],
    base: Sequence[Sequence["Image"]],
    adapter: Sequence[Sequence["Image"]],
    scorers: Sequence[Scorer],
) -> Comparison:
    """Score both and compare.

    Args:
        items: The suite.
        base: For each item the base's pictures, one a seed.
        adapter: For each item the adapter's, with the same seeds.
        scorers: Each with a name of its own.

    Returns:
        Scores and comparisons.

    Raises:
        ValueError: Pictures are missing, names of scorers repeat, or a scorer gives another number of scores.

    Example:
        >>> from sur_adapter.scorers import Classifier
        >>> items = [Item("1", "a pair", count=2), Item("2", "a trio", count=3)]
        >>> reads = Classifier(list, lambda item: item.count, name="count")  # a picture here is what one counts in it
        >>> found = compare(items, [[1], [3]], [[2], [3]], [reads])
        >>> found.paired["count"].base, found.paired["count"].adapter
        (0.5, 1.0)
    """
    seeds = len(base[0]) if base else 0
    for name, pictures in (("base", base), ("adapter", adapter)):
        if len(pictures) != len(items) or any(len(row) != seeds or not row for row in pictures):
            raise ValueError(f"the {name} needs {seeds or 'some'} pictures for each of {len(items)} prompts")
    names = [scorer.name for scorer in scorers]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"the scorers are named {names}; give at least one, each with a name of its own")
    flat_items = [item for item in items for _ in range(seeds)]
    scores: dict[str, dict[str, Tensor]] = {}
    for scorer in scorers:
        tables: dict[str, Tensor] = {}
        for name, pictures in (("base", base), ("adapter", adapter)):
            values = list(scorer([picture for row in pictures for picture in row], flat_items))
            if len(values) != len(flat_items):
                raise ValueError(f"the scorer {scorer.name} gave {len(values)} scores for {len(flat_items)} pictures")
            tables[name] = torch.tensor(values, dtype=torch.float64).reshape(len(items), seeds)
        scores[scorer.name] = tables
    return Comparison(scores, {name: paired(own["base"], own["adapter"]) for name, own in scores.items()})
