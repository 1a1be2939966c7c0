"""How much a model repeats itself over prompts: counted in bounded memory, and measured over what was kept."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from itertools import pairwise

from oogiri_go import fold

from ._gates import overlap, trigrams, units


class Repeats:
    """Counts how often a text was kept, in memory that does not grow: a count-min sketch.

    Four rows of 2^16 counters; a text's count is the least of its four. It is never too low. With N texts it is too
    high by more than N / 24,000 with a probability below 2 %.

    Example:
        >>> counts = Repeats()
        >>> counts.add("A moon."), counts.add("a MOON.")
        (1, 2)
    """

    def __init__(self) -> None:
        self._rows = [bytearray(1 << 16) for _ in range(4)]

    def _places(self, text: str) -> Iterable[tuple[bytearray, int]]:
        digest = blake2b(fold(text).encode(), digest_size=8).digest()
        return [(row, int.from_bytes(digest[2 * at : 2 * at + 2], "big")) for at, row in enumerate(self._rows)]

    def count(self, text: str) -> int:
        """How often the text was added, at most 255."""
        return min(row[place] for row, place in self._places(text))

    def add(self, text: str) -> int:
        """Count the text once more and give its count."""
        for row, place in self._places(text):
            row[place] = min(row[place] + 1, 255)
        return self.count(text)


def diversity(texts: Mapping[str, str]) -> dict[str, float]:
    """How unlike the kept answers are.

    Args:
        texts: Language by text; equal texts count once.

    Returns:
        ``distinct_2``, the share of pairs of neighbours that are distinct, and ``overlap``, the mean over neighbours in
        sorted order of the trigrams in common.
    """
    pairs: list[tuple[str, str]] = []
    for text, lang in texts.items():
        found = units(text, lang)
        pairs += pairwise(found)
    grams = [trigrams(text) for text in sorted(texts)]
    overlaps = [overlap(one, other) for one, other in pairwise(grams)]
    return {
        "distinct_2": len(set(pairs)) / len(pairs) if pairs else 0.0,
        "overlap": sum(overlaps) / len(overlaps) if overlaps else 0.0,
    }
