"""Likes, made comparable between prompts."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping

from ._groups import group_key
from ._record import Record


def star_percentiles(records: Iterable[Record], *, pictures: Mapping[str, str] | None = None) -> list[float | None]:
    """Place each record's likes among those of its prompt, because prompts differ in how many people saw them.

    (number with fewer + (number with as many - 1) / 2) / (n - 1), n the answers with likes to the prompt

    Args:
        records: Records.
        pictures: As in `group_key`.

    Returns:
        For each record a number from 0 to 1, ties sharing theirs, or None where its likes are unknown or no other
        answer to the prompt has any.

    Example:
        >>> stars = [9, 1, 1, None]
        >>> star_percentiles([Record("", "T2T", "Why?", None, str(i), s, "en") for i, s in enumerate(stars)])
        [1.0, 0.25, 0.25, None]
    """
    rows = [(group_key(one, pictures), one.star) for one in records]
    stars: dict[str, list[int]] = {}
    for group, star in rows:
        if star is not None:
            stars.setdefault(group, []).append(star)
    for values in stars.values():
        values.sort()

    def place(group: str, star: int | None) -> float | None:
        if star is None or len(stars[group]) < 2:
            return None
        values = stars[group]
        fewer, as_many = bisect_left(values, star), bisect_right(values, star)
        return (fewer + (as_many - fewer - 1) / 2) / (len(values) - 1)

    return [place(*row) for row in rows]
