"""From text to ids: words of lower case, numbered by how often the training dialogues have them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sail_core.runs import write_atomic

if TYPE_CHECKING:
    from ._types import Dialogue

PADDING, UNKNOWN = 0, 1
_WORD = re.compile(r"\w+(?:'\w+)?|[^\w\s]")


class Encoder(Protocol):
    """What turns text into ids for `collate`: `Vocab`, or the tokeniser of another model."""

    def encode(self, text: str) -> list[int]:
        """Ids >= 1 of a text."""


def words(text: str) -> list[str]:
    """Words and punctuation marks of a text, in lower case.

    Example:
        >>> words("I can't log in!!")
        ['i', "can't", 'log', 'in', '!', '!']
    """
    return _WORD.findall(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))


class Vocab:
    """Words and their ids; 0 is padding, 1 any other word.

    Args:
        words: The words whose ids are 2, 3, ..., without repetition.

    Raises:
        ValueError: A word comes twice.

    Example:
        >>> vocab = Vocab(["hello", "there"])
        >>> vocab.encode("Hello you there"), len(vocab)
        ([2, 1, 3], 4)
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._ids = {word: number for number, word in enumerate(self.words, start=2)}
        if len(self._ids) != len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise ValueError(f"the vocabulary holds {twice!r} more than once")

    def __len__(self) -> int:
        """Number of ids, padding and unknown included: the `vocab_size` of a host."""
        return len(self.words) + 2

    def encode(self, text: str) -> list[int]:
        """Ids of a text's words; a text without any gives the id of an unknown word."""
        get = self._ids.get
        return [get(word, UNKNOWN) for word in words(text)] or [UNKNOWN]

    @classmethod
    def build(cls, dialogues: Iterable[Dialogue], *, min_count: int = 2, max_size: int | None = None) -> Vocab:
        """Count the words of training dialogues.

        Args:
            dialogues: Only their texts count.
            min_count: Rarer words become unknown, which trains the unknown word's embedding.
            max_size: Largest `len` of the vocabulary; None has no limit.

        Raises:
            ValueError: No turn has a text.
        """
        counts: Counter[str] = Counter()
        for dialogue in dialogues:
            for turn in dialogue.turns:
                counts.update(words(turn.text or ""))
        if not counts:
            raise ValueError("no turn has a text to build a vocabulary from; dialogues of ids need none")
        chosen = sorted((word for word, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w))
        return cls(chosen[: None if max_size is None else max(0, max_size - 2)])

    def save(self, path: str | PathLike[str]) -> None:
        """Write the words as JSON, atomically."""
        write_atomic(path, json.dumps({"format": 1, "words": self.words}, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Vocab:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is not a saved vocabulary.
        """
        try:
            described = json.loads(Path(path).read_bytes())
            if described["format"] != 1 or not all(isinstance(word, str) for word in described["words"]):
                raise ValueError("format or words are not those of a vocabulary")
            return cls(described["words"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a saved vocabulary: {error}") from error
