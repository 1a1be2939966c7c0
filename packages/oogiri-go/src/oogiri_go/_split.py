"""Train, validation and test: by a hash of the prompt, so that nothing leaks and nothing ever moves."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Literal

from ._groups import group_key, question_group
from ._record import Record, record_id

SplitBy = Literal["group", "row"]
SplitName = Literal["train", "validation", "test"]

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Splits:
    """Records by split.

    Attributes:
        train: The training records.
        validation: The validation records.
        test: The test records.
        crossing: Records whose picture and whose question were already in different splits; they fit in none.
    """

    train: list[Record] = field(default_factory=list)
    validation: list[Record] = field(default_factory=list)
    test: list[Record] = field(default_factory=list)
    crossing: list[Record] = field(default_factory=list)


def split(
    records: Iterable[Record],
    *,
    by: SplitBy = "group",
    seed: int = 0,
    ratios: Sequence[float] = (0.9, 0.05, 0.05),
    pictures: Mapping[str, str] | None = None,
) -> Splits:
    """Divide records into train, validation and test.

    u = blake2b-64(seed, key) / 2^64; train where u < r1, validation where u < r1 + r2, else test

    By ``"group"`` the key is the prompt's `group_key`: no prompt and no picture is in two splits, on every machine the
    same, and records added later, behind the old ones, move none of these. A record with a picture and a question of
    its own belongs to two prompts. It takes the split of the one that was seen before; where both were, in different
    splits, it is left out, in ``crossing``. By ``"row"`` the key is the record's identifier, as in the paper: answers
    to one prompt are then in several splits.

    Args:
        records: Records; their order matters only for those with both picture and question.
        by: ``"group"`` or ``"row"``.
        seed: Another number gives another division.
        ratios: Shares of train, validation and test; they sum to 1.
        pictures: As in `group_key`.

    Returns:
        The records by split, in their order.

    Raises:
        ValueError: An argument has no such value.

    Example:
        >>> rows = [Record("", "T2T", f"Question {i}?", None, "Yes.", None, "en") for i in range(1000)]
        >>> parts = split(rows)
        >>> len(parts.train), len(parts.validation), len(parts.test)
        (908, 36, 56)
    """
    bounds = check_ratios(ratios)
    if by not in ("group", "row"):
        raise ValueError(f"by is {by!r}; expected 'group' or 'row'")
    records = list(records)
    result = Splits()
    anchors = Anchors(seed, bounds)
    if by == "group":
        for record in records:
            anchors.announce(record, pictures)
    for record in records:
        if by == "row":
            name: SplitName | None = split_of(row_key(record), seed, bounds)
        else:
            anchor = anchors.place(record, pictures)
            name = None if anchor is None else split_of(anchor, seed, bounds)
        getattr(result, name or "crossing").append(record)
    return result


class Anchors:
    """Which group decides the split of a record that belongs to two.

    Only groups that a record with both picture and question names are remembered. `announce` must have seen every
    record before the first is placed; then records are placed in their order.
    """

    def __init__(self, seed: int, bounds: tuple[float, float]) -> None:
        self._seed = seed
        self._bounds = bounds
        self._tied: dict[str, str | None] = {}

    def announce(self, record: Record, pictures: Mapping[str, str] | None) -> None:
        """Note the two groups of a record that has two."""
        if record.image is not None and record.question is not None:
            self._tied[group_key(record, pictures)] = None
            self._tied[question_group(record.question)] = None

    def place(self, record: Record, pictures: Mapping[str, str] | None) -> str | None:
        """The group whose hash decides, None where the record's two groups are already apart."""
        key = group_key(record, pictures)
        if key not in self._tied:
            return key
        anchor = self._tied[key]
        if record.image is None or record.question is None:
            anchor = self._tied[key] = anchor or key
            return anchor
        second = question_group(record.question)
        other = self._tied[second]
        if anchor and other and self._name(anchor) != self._name(other):
            return None
        chosen = anchor or other or key
        self._tied[key] = anchor or chosen
        self._tied[second] = other or chosen
        return chosen

    def _name(self, key: str) -> SplitName:
        return split_of(key, self._seed, self._bounds)


@lru_cache(maxsize=65_536)
def split_of(key: str, seed: int, bounds: tuple[float, float]) -> SplitName:
    """The split of a key: a pure function of key, seed and shares."""
    u = int.from_bytes(blake2b(f"{seed}:{key}".encode(), digest_size=8).digest(), "big") / 2**64
    if u < bounds[0]:
        return "train"
    return "validation" if u < bounds[1] else "test"


def row_key(record: Record) -> str:
    """A record's identifier, computed where it was left out."""
    if record.id:
        return record.id
    return record_id(lang=record.lang, type=record.type, question=record.question, image=record.image, text=record.text)


def check_ratios(ratios: Sequence[float]) -> tuple[float, float]:
    """Check the shares and give the bounds between the splits."""
    if len(ratios) != 3 or not all(0 <= share <= 1 for share in ratios) or abs(sum(ratios) - 1) > 1e-9:
        raise ValueError(f"ratios are {tuple(ratios)}; expected three shares from 0 to 1 that sum to 1")
    first = ratios[0]
    # Without this a share of 0 at the end would still catch what rounding leaves of 1.
    return first, 1.0 if ratios[2] == 0 else first + ratios[1]
