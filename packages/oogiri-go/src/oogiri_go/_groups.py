"""Which records answer the same prompt."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b

from ._record import Record, nfkc


def fold(text: str) -> str:
    """Normalise a text for comparison: NFKC, case folded, white space collapsed.

    Args:
        text: Any text.

    Returns:
        The text that equal wordings share.

    Example:
        >>> fold("Ｗｈｙ  NOT? ")
        'why not?'
    """
    return " ".join(nfkc(text).casefold().split())


def dedup_key(record: Record, pictures: Mapping[str, str] | None = None) -> tuple[str, str | None, str, str]:
    """Give what two answers share exactly when one repeats the other: language, prompt and folded text.

    Args:
        record: The record.
        pictures: As in `group_key`.

    Returns:
        A tuple to compare; records of one `group_key` have the same prompt in it.

    Example:
        >>> rows = [Record("", "T2T", "Why?", None, text, None, "en") for text in ("Why not?", "why  NOT?")]
        >>> dedup_key(rows[0]) == dedup_key(rows[1])
        True
    """
    if record.image is None:
        return record.lang, None, _folded_question(record.question or ""), fold(record.text)
    picture = record.image if pictures is None else pictures.get(record.image, record.image)
    return record.lang, picture, "", fold(record.text)


def group_key(record: Record, pictures: Mapping[str, str] | None = None) -> str:
    """Name the prompt that a record answers: its picture where it has one, else its question.

    The name depends on the record alone, so it never changes when data are added.

    Args:
        record: The record.
        pictures: The content of pictures by identifier, such as their hashes; a picture that has two identifiers is
            then one prompt. Without it a picture is known by its identifier.

    Returns:
        32 hexadecimal digits.

    Example:
        >>> first = Record("", "T2T", "Why me?", None, "Why not?", 5, "en")
        >>> second = Record("", "T2T", "WHY  me?", None, "It is a lottery.", 3, "en")
        >>> group_key(first) == group_key(second)
        True
    """
    if record.image is not None:
        return picture_group(record.image if pictures is None else pictures.get(record.image, record.image))
    return question_group(record.question or "")


@lru_cache(maxsize=65_536)
def picture_group(content: str) -> str:
    """The group of a picture."""
    return blake2b(b"image\0" + content.encode(), digest_size=16).hexdigest()


@lru_cache(maxsize=65_536)
def question_group(question: str) -> str:
    """The group of a question."""
    return blake2b(b"question\0" + fold(question).encode(), digest_size=16).hexdigest()


_folded_question = lru_cache(maxsize=65_536)(fold)  # a question comes with each of its answers


def groups(records: Iterable[Record], *, pictures: Mapping[str, str] | None = None) -> dict[str, list[Record]]:
    """Collect records by prompt.

    Args:
        records: Records.
        pictures: As in `group_key`.

    Returns:
        The records of each `group_key`, prompts and records in the order of their appearance.

    Example:
        >>> answers = [Record("", "T2T", "Why?", None, text, None, "en") for text in ("Why not?", "Because.")]
        >>> [len(group) for group in groups(answers).values()]
        [2]
    """
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(group_key(record, pictures), []).append(record)
    return found


def rivals(
    records: Iterable[Record], pictures: Mapping[str, str] | None = None
) -> dict[tuple[str, str, str], list[Record]]:
    """Collect the answers that can be compared: to one prompt, in one language and game.

    Each language comes from another platform, so likes across languages do not compare.
    """
    found: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        found.setdefault((record.lang, record.type, group_key(record, pictures)), []).append(record)
    return found
