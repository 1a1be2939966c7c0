"""Which records answer the same prompt."""

import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b

from ._record import Record


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
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


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
