"""What a set of records holds, in numbers."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ._groups import group_key
from ._record import Record

_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)


@dataclass(frozen=True)
class Statistics:
    """Numbers over records.

    Attributes:
        records: How many.
        by_kind: Records by language and game, such as ``"en I2T"``.
        prompts: Prompts by language and game.
        with_star: Share of records whose likes are known, from 0 to 1.
        star: Quantiles of the likes, by level (0 to 1).
        length: Quantiles of the answers' characters, by level.
        answers: Quantiles of the answers to a prompt, by level.
        rankable: Prompts with at least 5 different numbers of likes.
        with_picture: Records that name a picture.
    """

    records: int
    by_kind: dict[str, int]
    prompts: dict[str, int]
    with_star: float
    star: dict[float, int]
    length: dict[float, int]
    answers: dict[float, int]
    rankable: int
    with_picture: int

    def rows(self) -> list[dict[str, Any]]:
        """The counts as a table, one row for each language and game."""
        return [{"kind": kind, "records": count, "prompts": self.prompts[kind]} for kind, count in self.by_kind.items()]


def statistics(records: Iterable[Record], *, pictures: Mapping[str, str] | None = None) -> Statistics:
    """Count.

    Args:
        records: Records; they are not kept.
        pictures: As in `group_key`.

    Returns:
        The numbers.

    Example:
        >>> rows = [Record("", "T2T", "Why?", None, text, star, "en") for text, star in [("No.", 1), ("Yes!", None)]]
        >>> found = statistics(rows)
        >>> print(found.by_kind, found.prompts, found.with_star, found.answers[1.0])
        {'en T2T': 2} {'en T2T': 1} 0.5 2
    """
    by_kind: Counter[str] = Counter()
    stars: Counter[int] = Counter()
    lengths: Counter[int] = Counter()
    answers: Counter[str] = Counter()
    kinds: dict[str, set[str]] = {}
    likes: dict[str, set[int]] = {}
    with_picture = 0
    for one in records:
        kind, group = f"{one.lang} {one.type}", group_key(one, pictures)
        by_kind[kind] += 1
        kinds.setdefault(kind, set()).add(group)
        answers[group] += 1
        lengths[len(one.text)] += 1
        with_picture += one.image is not None
        if one.star is not None:
            stars[one.star] += 1
            likes.setdefault(group, set()).add(one.star)
    total = sum(by_kind.values())
    return Statistics(
        records=total,
        by_kind=dict(sorted(by_kind.items())),
        prompts={kind: len(groups) for kind, groups in sorted(kinds.items())},
        with_star=sum(stars.values()) / total if total else 0.0,
        star=_quantiles(stars),
        length=_quantiles(lengths),
        answers=_quantiles(Counter(answers.values())),
        rankable=sum(len(values) >= 5 for values in likes.values()),
        with_picture=with_picture,
    )


def _quantiles(counts: Counter[int]) -> dict[float, int]:
    """The least value that at least this share of the counted does not exceed."""
    values = sorted(counts)
    running, total = [], 0
    for value in values:
        total += counts[value]
        running.append(total)
    return {level: values[bisect_left(running, level * total)] for level in _QUANTILES} if total else {}
