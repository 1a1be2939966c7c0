"""Find the same answer twice: exactly, or nearly."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ._groups import dedup_key
from ._minhash import bands, grams, jaccard, minhash
from ._record import Record

Scope = Literal["group", "all"]


@dataclass(frozen=True)
class Duplicate:
    """A record that was left out, and the earlier one that it repeats.

    Attributes:
        record: What was left out.
        of: The record that was kept instead.
        kind: ``"exact"`` or ``"near"``.
        similarity: Jaccard similarity of their character n-grams, 1 for exact duplicates.
    """

    record: Record
    of: Record
    kind: Literal["exact", "near"]
    similarity: float


@dataclass(frozen=True)
class Dedup:
    """What remains of the records, and what was left out and why.

    Attributes:
        kept: The first of each set of duplicates, in order.
        duplicates: What was left out, in order.
    """

    kept: list[Record] = field(default_factory=list)
    duplicates: list[Duplicate] = field(default_factory=list)


def dedup(
    records: Iterable[Record],
    *,
    near: float | None = None,
    scope: Scope = "group",
    pictures: Mapping[str, str] | None = None,
) -> Dedup:
    """Keep the first of answers that say the same.

    Exact duplicates have the same text after `fold`. Near duplicates have character n-grams of at least the given
    Jaccard similarity; candidates come from MinHash, and each is compared exactly with a record that was kept, so
    nothing is left out that is less similar than asked.

    Args:
        records: Records.
        near: Least Jaccard similarity of near duplicates, above 0 and at most 1; None looks for exact ones only.
        scope: ``"group"`` compares answers to one prompt in one language, ``"all"`` all answers in one language.
        pictures: As in `group_key`; a picture under two identifiers is then one prompt.

    Returns:
        Kept records and duplicates.

    Raises:
        ValueError: An argument has no such value.

    Example:
        >>> texts = ["Let sleeping dogs lie.", "LET sleeping dogs lie.", "Let sleeping dogs lie!!", "Woof."]
        >>> rows = [Record("", "T2T", "Why?", None, text, None, "en") for text in texts]
        >>> [(one.record.text, one.kind) for one in dedup(rows, near=0.8).duplicates]
        [('LET sleeping dogs lie.', 'exact'), ('Let sleeping dogs lie!!', 'near')]
    """
    check_near(near)
    if scope not in ("group", "all"):
        raise ValueError(f"scope is {scope!r}; expected 'group' or 'all'")
    result = Dedup()
    exact: dict[Hashable, Record] = {}
    index = NearIndex(near) if near is not None else None
    for record in records:
        *prompt, text = dedup_key(record, pictures)
        place = (record.lang,) if scope == "all" else tuple(prompt)
        key = (place, text)
        if (first := exact.get(key)) is not None:
            result.duplicates.append(Duplicate(record, first, "exact", 1.0))
            continue
        if index is not None:
            members = grams(record.text)
            if (found := index.find(place, members)) is not None:
                result.duplicates.append(Duplicate(record, found[0], "near", found[1]))
                exact[key] = found[0]
                continue
            index.add(place, members, record)
        exact[key] = record
        result.kept.append(record)
    return result


def check_near(near: float | None) -> None:
    """Refuse a threshold that no similarity can have."""
    if near is not None and not 0 < near <= 1:
        raise ValueError(f"near is {near}; expected a similarity above 0 and at most 1, such as 0.8, or None")


class NearIndex:
    """Sets of n-grams that were kept, found again by a similar set."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._kept: list[tuple[frozenset[str], Record]] = []
        self._bands: dict[Hashable, list[int]] = {}

    def find(self, place: Hashable, members: frozenset[str]) -> tuple[Record, float] | None:
        """The most similar kept record of a place, the earliest of equals, where one is similar enough."""
        best: tuple[Record, float] | None = None
        candidates = {at for key in self._keys(place, members) for at in self._bands.get(key, ())}
        for at in sorted(candidates):
            other, record = self._kept[at]
            similarity = jaccard(members, other)
            if similarity >= self._threshold and (best is None or similarity > best[1]):
                best = record, similarity
        return best

    def add(self, place: Hashable, members: frozenset[str], record: Record) -> None:
        """Remember a set."""
        for key in self._keys(place, members):
            self._bands.setdefault(key, []).append(len(self._kept))
        self._kept.append((members, record))

    def _keys(self, place: Hashable, members: frozenset[str]) -> Sequence[Hashable]:
        return [(place, band) for band in bands(minhash(members), self._threshold)]
