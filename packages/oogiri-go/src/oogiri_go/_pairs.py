"""Which answers to a prompt are the better ones."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations
from typing import Any, Literal

from ._groups import group_key, rivals
from ._messages import instruction_of, user_message
from ._record import Record


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt.

    Attributes:
        chosen: The better one.
        rejected: The other.
        margin: Difference of their likes, or of their mean ratings in standard errors.
    """

    chosen: Record
    rejected: Record
    margin: float


def ranking_pairs(
    records: Iterable[Record],
    *,
    by: Literal["star", "rating"] = "star",
    least: float | None = None,
    per_prompt: int | None = None,
    seed: int = 0,
    pictures: Mapping[str, str] | None = None,
) -> Iterator[Pair]:
    """Pair the answers to each prompt in one language, the better one first.

    By ``"star"`` a pair counts where the likes differ by ``least`` or more. Likes grow with how often an answer was
    shown; where people rated answers, ``"rating"`` is the better measure: a pair counts where the means ``rating_mean``
    in ``extra`` are ``least`` or more standard errors of their difference apart,

    (m1 - m2) / sqrt(se1^2 + se2^2)

    Args:
        records: Records.
        by: ``"star"`` or ``"rating"``.
        least: Least margin; 1 like or 2 standard errors where None.
        per_prompt: At most so many pairs of a prompt, chosen by hash; None takes all.
        seed: Another number chooses others.
        pictures: As in `group_key`.

    Yields:
        Pairs, prompts in the order of their appearance.

    Raises:
        ValueError: An argument has no such value.

    Example:
        >>> likes = {"a": 1, "b": 7, "c": None}
        >>> rows = [Record("", "T2T", "Why?", None, text, star, "en") for text, star in likes.items()]
        >>> [(pair.chosen.text, pair.rejected.text, pair.margin) for pair in ranking_pairs(rows)]
        [('b', 'a', 6)]
    """
    if by not in ("star", "rating"):
        raise ValueError(f"by is {by!r}; expected 'star' or 'rating'")
    least = {"star": 1.0, "rating": 2.0}[by] if least is None else least
    if least <= 0:
        raise ValueError(f"least is {least}; expected a margin above 0")
    if per_prompt is not None and per_prompt < 1:
        raise ValueError(f"per_prompt is {per_prompt}; expected at least 1, or None")
    for (_, _, group), answers in rivals(records, pictures).items():
        found = []
        for first, second in combinations(answers, 2):
            margin = _star_margin(first, second) if by == "star" else _rating_margin(first, second)
            if margin is not None and abs(margin) >= least:
                found.append(Pair(first, second, margin) if margin > 0 else Pair(second, first, -margin))
        if per_prompt is not None and len(found) > per_prompt:
            found.sort(key=lambda pair: _draw(seed, group, pair.chosen.text, pair.rejected.text))
            found = found[:per_prompt]
        yield from found


def _star_margin(first: Record, second: Record) -> float | None:
    return None if first.star is None or second.star is None else first.star - second.star


def _rating_margin(first: Record, second: Record) -> float | None:
    values = [one.extra.get(key) for one in (first, second) for key in ("rating_mean", "rating_se")]
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    if len(numbers) < len(values):
        return None
    mean, error, other_mean, other_error = numbers
    spread = math.hypot(error, other_error)
    return (mean - other_mean) / spread if spread > 0 else None


def dpo_row(pair: Pair, *, instruction: str | None = None) -> dict[str, Any]:
    """Write a pair as a row of a preference dataset in the conversational form that TRL's DPO trainer reads.

    Args:
        pair: The pair.
        instruction: What to ask for; None takes the default of the language and game.

    Returns:
        ``prompt``, ``chosen`` and ``rejected``, each a list of messages, and ``images``, a list of identifiers, empty
        where the prompt has no picture.

    Example:
        >>> rows = [Record("", "T2T", "Why?", None, text, star, "en") for text, star in [("a", 1), ("b", 7)]]
        >>> row = dpo_row(*ranking_pairs(rows))
        >>> print(row["chosen"], row["images"])
        [{'role': 'assistant', 'content': [{'type': 'text', 'text': 'b'}]}] []
    """
    record = pair.chosen
    answers = {
        name: [{"role": "assistant", "content": [{"type": "text", "text": one.text}]}]
        for name, one in (("chosen", pair.chosen), ("rejected", pair.rejected))
    }
    return {
        "prompt": [user_message(record, instruction or instruction_of(record))],
        **answers,
        "images": [] if record.image is None else [record.image],
    }


def _draw(seed: int, *words: str) -> bytes:
    return blake2b("\0".join([str(seed), *words]).encode(), digest_size=8).digest()


def star_percentiles(records: Iterable[Record], *, pictures: Mapping[str, str] | None = None) -> list[float | None]:
    """Place each record's likes among those of its prompt and language, for prompts differ in how many people saw them.

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
    rows = [((one.lang, one.type, group_key(one, pictures)), one.star) for one in records]
    stars: dict[tuple[str, str, str], list[int]] = {}
    for group, star in rows:
        if star is not None:
            stars.setdefault(group, []).append(star)
    for values in stars.values():
        values.sort()

    def place(group: tuple[str, str, str], star: int | None) -> float | None:
        if star is None or len(stars[group]) < 2:
            return None
        values = stars[group]
        fewer, as_many = bisect_left(values, star), bisect_right(values, star)
        return (fewer + (as_many - fewer - 1) / 2) / (len(values) - 1)

    return [place(*row) for row in rows]
